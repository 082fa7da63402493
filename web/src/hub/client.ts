// The one way to ask the hub: the client generated from its OpenAPI document. Every refusal is thrown as a Problem.

import createClient, { type Middleware } from 'openapi-fetch'
import createHooks from 'openapi-react-query'
import type { components, paths } from '../api/schema'
import { Problem, problemOf } from './problem'

export type Schemas = components['schemas']

const refusalsAreProblems: Middleware = {
  async onResponse({ response }) {
    if (!response.ok) throw await problemOf(response)
  },
  onError() {
    return Problem.unreachable()
  },
}

export const hub = createClient<paths>({
  baseUrl: globalThis.location.origin,
  credentials: 'same-origin',
  // Looked up per call, so that tests can stand in for the network.
  fetch: (request) => globalThis.fetch(request),
})
hub.use(refusalsAreProblems)

/** Queries and mutations over the same client, typed by path. */
export const ask = createHooks(hub)
