// A moment as people say it ("4 minutes ago"), with the exact one a hover away.

import { useSyncExternalStore } from 'react'

const TICK_MS = 10_000
const units: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
]
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' })
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' })

export function Ago({ at }: { at: string }) {
  const now = useNow()
  const moment = new Date(at)
  return (
    <time dateTime={at} title={exact.format(moment)}>
      {sayRelative(moment.getTime(), now)}
    </time>
  )
}

/** Says how far a moment lies from now, in the largest unit that fits. Clocks differ: the very near is "now". */
export function sayRelative(moment: number, now: number): string {
  const seconds = Math.round((moment - now) / 1_000)
  const distance = Math.abs(seconds)
  if (distance < 10) return 'just now'
  for (const [unit, size] of units) {
    if (distance >= size) return relative.format(Math.trunc(seconds / size), unit)
  }
  return relative.format(seconds, 'second')
}

// One clock for all that is shown, so that a long table does not run a timer per row.
let now = Date.now()
const watchers = new Set<() => void>()
let timer: ReturnType<typeof setInterval> | undefined

function watch(watcher: () => void): () => void {
  watchers.add(watcher)
  timer ??= setInterval(tick, TICK_MS)
  return () => {
    watchers.delete(watcher)
    if (watchers.size > 0) return
    clearInterval(timer)
    timer = undefined
  }
}

function tick() {
  now = Date.now()
  for (const watcher of watchers) watcher()
}

function useNow(): number {
  // Something first shown long after the last tick must not see the past.
  if (!timer) now = Date.now()
  return useSyncExternalStore(watch, () => now)
}
