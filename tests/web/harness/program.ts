// A program that runs beside the stories and ends with them.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'

const STOP_MS = 20_000
const KEPT_LINES = 200

export class Program {
  private readonly lines: string[] = []
  private readonly watchers = new Set<(line: string) => void>()
  private readonly ended: Promise<unknown>

  private constructor(
    private readonly name: string,
    private readonly child: ChildProcess,
  ) {
    this.ended = once(child, 'exit')
    for (const stream of [child.stdout, child.stderr]) this.listen(stream)
  }

  static start(name: string, command: string, words: string[]): Program {
    const child = spawn(command, words, { stdio: ['ignore', 'pipe', 'pipe'] })
    return new Program(name, child)
  }

  /** Waits for a line that matches, also among those already said. */
  async says(pattern: RegExp, withinMs: number): Promise<RegExpMatchArray> {
    return new Promise((resolve, reject) => {
      const finish = (act: () => void) => {
        clearTimeout(timer)
        this.watchers.delete(look)
        this.child.off('exit', gone)
        act()
      }
      const look = (line: string) => {
        const match = line.match(pattern)
        if (match) finish(() => resolve(match))
      }
      const gone = () => finish(() => reject(this.failure('ended')))
      const timer = setTimeout(
        () => finish(() => reject(this.failure(`did not say ${pattern}`))),
        withinMs,
      )
      this.watchers.add(look)
      this.child.once('exit', gone)
      for (const line of this.lines) look(line)
    })
  }

  /** Asks the program to end; one that does not within its time is killed. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    this.child.kill('SIGTERM')
    const timer = setTimeout(() => this.child.kill('SIGKILL'), STOP_MS)
    await this.ended
    clearTimeout(timer)
  }

  failure(what: string): Error {
    return new Error(`${this.name} ${what}; its last words:\n${this.lines.slice(-30).join('\n')}`)
  }

  private listen(stream: NodeJS.ReadableStream | null): void {
    let rest = ''
    stream?.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        this.lines.push(line)
        if (this.lines.length > KEPT_LINES) this.lines.shift()
        for (const watcher of this.watchers) watcher(line)
      }
    })
  }
}
