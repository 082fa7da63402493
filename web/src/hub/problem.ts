// What the hub answers when it does not do what was asked, as one type of error for the whole console.

import type { components } from '../api/schema'

type Detail = components['schemas']['ErrorBody']['error']

/** The status of a request that never got an answer. */
const UNREACHABLE = 0

export class Problem extends Error {
  readonly status: number
  readonly code: string
  readonly hint: string | null
  /** The policies that forbid it; none where simply no policy allows it. */
  readonly policies: readonly string[]

  constructor(status: number, detail: Partial<Detail>) {
    super(detail.message ?? 'The hub gave no reason.')
    this.name = 'Problem'
    this.status = status
    this.code = detail.code ?? 'unknown'
    this.hint = detail.hint ?? null
    this.policies = detail.policies ?? []
  }

  static unreachable(): Problem {
    return new Problem(UNREACHABLE, {
      code: 'unreachable',
      message: 'The hub does not answer.',
      hint: 'Check your network. Connections that are already open keep working meanwhile.',
    })
  }

  get isSignedOut(): boolean {
    return this.status === 401
  }

  get isDenied(): boolean {
    return this.status === 403
  }

  get isMissing(): boolean {
    return this.status === 404
  }

  /** Whether the same request may succeed a moment later. */
  get isPassing(): boolean {
    return this.status === UNREACHABLE || this.status === 502 || this.status === 503
  }
}

/** Reads the hub's error body; an answer from something else (a proxy's HTML, say) still gives a Problem. */
export async function problemOf(response: Response): Promise<Problem> {
  const body: unknown = await response.json().catch(() => null)
  return new Problem(response.status, detailIn(body) ?? { message: meaningOf(response.status) })
}

/** Everything that a query can fail with is a Problem, unless the console itself is broken. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error
  const message = error instanceof Error ? error.message : String(error)
  return new Problem(-1, { code: 'console', message: `The console failed: ${message}` })
}

function detailIn(body: unknown): Partial<Detail> | null {
  if (typeof body !== 'object' || body === null || !('error' in body)) return null
  const { error } = body
  return typeof error === 'object' && error !== null ? error : null
}

function meaningOf(status: number): string {
  switch (status) {
    case 401:
      return 'You are signed out.'
    case 403:
      return 'You may not do this.'
    case 404:
      return 'This does not exist, or you may not see it.'
    case 429:
      return 'Too many requests; wait a moment.'
    case 502:
    case 503:
      return 'The hub is not ready.'
    default:
      return `The hub answered with status ${status}.`
  }
}
