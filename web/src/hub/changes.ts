// Live data: the hub says what has changed, never what it has become; the queries that show it are asked again.

import { type QueryClient, useQueryClient } from '@tanstack/react-query'
import { useEffect, useState } from 'react'
import { readEvents, type StreamEvent } from './event-stream'
import { asProblem } from './problem'

export type Liveness = 'connecting' | 'live' | 'reconnecting' | 'withheld'

type Noun = 'sessions' | 'services' | 'teamspaces' | 'members' | 'policies'

/** Which answers a change of a noun can alter. A change of members or policies can alter what anybody may see or do. */
const SHOWN_BY: Record<Noun, readonly string[] | 'everything'> = {
  sessions: ['/api/v1/sessions', '/api/v1/teamspaces/{id}/services'],
  services: ['/api/v1/teamspaces/{id}/services', '/api/v1/teamspaces', '/api/v1/teamspaces/{id}'],
  teamspaces: ['/api/v1/teamspaces', '/api/v1/teamspaces/{id}'],
  members: 'everything',
  policies: 'everything',
}

/** A stream that has lived this long and is closed in order was ended with its credential: no loss, so nothing is said. */
const LIVED_MS = 10_000

/** A rollout changes many endpoints at once: hints within this time make one question. */
const GATHER_MS = 150
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 30_000

/** Keeps the console's answers fresh while it is shown, and says whether they are. */
export function useChanges(): Liveness {
  const queries = useQueryClient()
  const [liveness, setLiveness] = useState<Liveness>('connecting')
  useEffect(() => {
    const stop = new AbortController()
    void follow(queries, setLiveness, stop.signal)
    return () => stop.abort()
  }, [queries])
  return liveness
}

async function follow(
  queries: QueryClient,
  tell: (liveness: Liveness) => void,
  stop: AbortSignal,
): Promise<void> {
  const hints = new GatheredHints(queries)
  stop.addEventListener('abort', () => hints.drop(), { once: true })
  let failures = 0
  let seenBefore = false
  let openedAt = 0
  const handlers = {
    onOpen: () => {
      failures = 0
      openedAt = Date.now()
      tell('live')
      // Whatever changed while nobody listened was announced to nobody.
      if (seenBefore) void queries.invalidateQueries()
      seenBefore = true
    },
    onEvent: (event: StreamEvent) => hints.add(event),
  }
  while (!stop.aborted) {
    try {
      await readEvents('/api/v1/events', handlers, stop)
      if (Date.now() - openedAt > LIVED_MS) continue
      tell('reconnecting')
    } catch (error) {
      if (stop.aborted) return
      const problem = asProblem(error)
      if (problem.isSignedOut) {
        void queries.invalidateQueries({ queryKey: ['get', '/api/v1/me'] })
        return
      }
      tell(problem.isDenied ? 'withheld' : 'reconnecting')
    }
    await pause(pauseAfter(failures++), stop)
  }
}

/** Full jitter: a thousand consoles do not come back to a restarted hub in the same instant. */
function pauseAfter(failures: number): number {
  const ceiling = Math.min(FIRST_PAUSE_MS * 2 ** failures, LONGEST_PAUSE_MS)
  return FIRST_PAUSE_MS / 2 + Math.random() * ceiling
}

/** Waits; the browser's news that the network is back ends the wait. */
function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      globalThis.removeEventListener('online', done)
      stop.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    globalThis.addEventListener('online', done)
    stop.addEventListener('abort', done)
  })
}

class GatheredHints {
  private nouns = new Set<Noun>()
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(private readonly queries: QueryClient) {}

  add(event: StreamEvent): void {
    const noun = event.event === 'change' ? nounIn(event.data) : null
    if (!noun) return
    this.nouns.add(noun)
    this.timer ??= setTimeout(() => this.askAgain(), GATHER_MS)
  }

  drop(): void {
    clearTimeout(this.timer)
  }

  private askAgain(): void {
    const changed = [...this.nouns].map((noun) => SHOWN_BY[noun])
    this.nouns.clear()
    this.timer = undefined
    if (changed.includes('everything')) {
      void this.queries.invalidateQueries()
      return
    }
    const paths = new Set(changed.flat())
    void this.queries.invalidateQueries({
      predicate: ({ queryKey }) => paths.has(String(queryKey[1])),
    })
  }
}

function nounIn(data: string): Noun | null {
  try {
    const { noun } = JSON.parse(data) as { noun?: unknown }
    return typeof noun === 'string' && noun in SHOWN_BY ? (noun as Noun) : null
  } catch {
    return null
  }
}
