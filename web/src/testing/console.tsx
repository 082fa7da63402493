// Opens the whole console at an address, as a browser would.

import { createMemoryHistory } from '@tanstack/react-router'
import { render } from '@testing-library/react'
import { App } from '../app'
import { newQueryClient } from '../hub/queries'
import { newRouter } from '../routes'

export function openConsole(address: string) {
  const history = createMemoryHistory({ initialEntries: [address] })
  const router = newRouter(history)
  render(<App queries={newQueryClient()} router={router} still />)
  return { here: () => router.state.location.href }
}
