// Server-sent events as a browser's own EventSource does not give them: silence is noticed, because the hub's
// keep-alive comments are seen here, and a refusal by status is told apart from a lost connection.

import { Problem, problemOf } from './problem'

export interface StreamEvent {
  event: string
  data: string
}

/** The hub says something at least every 15 s; twice that and a little, and the connection is taken for dead. */
const SILENCE_MS = 35_000

export interface StreamHandlers {
  onOpen: () => void
  onEvent: (event: StreamEvent) => void
}

/** Reads one connection until it ends. Resolves when the other side closes, throws a Problem when it is refused or lost. */
export async function readEvents(
  url: string,
  handlers: StreamHandlers,
  signal: AbortSignal,
  silenceMs = SILENCE_MS,
): Promise<void> {
  const silence = new AbortController()
  const either = AbortSignal.any([signal, silence.signal])
  let timer = setTimeout(() => silence.abort(), silenceMs)
  try {
    const response = await fetch(url, {
      headers: { accept: 'text/event-stream' },
      credentials: 'same-origin',
      cache: 'no-store',
      signal: either,
    })
    if (!response.ok) throw await problemOf(response)
    if (!response.body) throw Problem.unreachable()
    handlers.onOpen()
    const parser = new EventParser(handlers.onEvent)
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    either.addEventListener('abort', () => void reader.cancel().catch(() => undefined))
    for (;;) {
      const { done, value } = await reader.read()
      if (silence.signal.aborted) throw Problem.unreachable()
      if (done) return
      clearTimeout(timer)
      timer = setTimeout(() => silence.abort(), silenceMs)
      parser.push(value)
    }
  } catch (error) {
    throw error instanceof Problem ? error : Problem.unreachable()
  } finally {
    clearTimeout(timer)
    silence.abort()
  }
}

/** Puts lines together into events, however the network has cut them. A line too long to be ours is dropped. */
export class EventParser {
  static readonly MAX_LINE = 64 * 1024
  private rest = ''
  private event = 'message'
  private data: string[] = []

  constructor(private readonly onEvent: (event: StreamEvent) => void) {}

  push(text: string): void {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/)
    this.rest = lines.pop() ?? ''
    if (this.rest.length > EventParser.MAX_LINE) this.rest = ''
    for (const line of lines) this.line(line)
  }

  private line(line: string): void {
    if (line === '') {
      this.finish()
      return
    }
    const colon = line.indexOf(':')
    if (colon === 0) return
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'event') this.event = value
    if (field === 'data') this.data.push(value)
  }

  private finish(): void {
    if (this.data.length > 0) this.onEvent({ event: this.event, data: this.data.join('\n') })
    this.event = 'message'
    this.data = []
  }
}
