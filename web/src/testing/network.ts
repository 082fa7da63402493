// The network of unit tests: nothing is reached but what a test has put there.

import { setupServer } from 'msw/node'

export const network = setupServer()
