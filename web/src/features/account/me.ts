// Who is signed in. What they may do is not known here: the hub says it with each thing it shows.

import { ask, type Schemas } from '../../hub/client'

export type Me = Schemas['Me']

export function useMe() {
  return ask.useQuery('get', '/api/v1/me')
}
