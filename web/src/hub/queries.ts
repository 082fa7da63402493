// How answers of the hub are kept: fresh until a change is announced, asked again only when that can help.

import { QueryCache, QueryClient } from '@tanstack/react-query'
import { asProblem } from './problem'

const WHO_AM_I = '/api/v1/me'
const ATTEMPTS = 3
const FRESH_MS = 60_000

export function newQueryClient(): QueryClient {
  const client = new QueryClient({
    queryCache: new QueryCache({
      // A session that ended shows in whatever is asked next; the shell watches the answer to "who am I?".
      onError: (error, query) => {
        if (asProblem(error).isSignedOut && query.queryKey[1] !== WHO_AM_I) {
          void client.invalidateQueries({ queryKey: ['get', WHO_AM_I] })
        }
      },
    }),
    defaultOptions: {
      queries: {
        staleTime: FRESH_MS,
        retry: (failures, error) => asProblem(error).isPassing && failures < ATTEMPTS - 1,
        retryDelay: (failures) => Math.min(500 * 2 ** failures, 4_000),
        networkMode: 'always',
      },
      mutations: { retry: false, networkMode: 'always' },
    },
  })
  return client
}
