import { HttpResponse, http } from 'msw'
import { expect, test, vi } from 'vitest'
import { network } from '../testing/network'
import { EventParser, readEvents, type StreamEvent } from './event-stream'

function parsed(...chunks: string[]): StreamEvent[] {
  const events: StreamEvent[] = []
  const parser = new EventParser((event) => events.push(event))
  for (const chunk of chunks) parser.push(chunk)
  return events
}

test('events are the same however the network cuts them', () => {
  const text = ': hello\n\nevent: change\r\ndata: {"a":1}\r\n\r\ndata: x\ndata: y\n\n'
  const whole = parsed(text)
  expect(whole).toEqual([
    { event: 'change', data: '{"a":1}' },
    { event: 'message', data: 'x\ny' },
  ])
  expect(parsed(...text)).toEqual(whole)
})

test('a line without end is not kept in memory', () => {
  const events = parsed('data: '.padEnd(EventParser.MAX_LINE + 1, 'x'), '\n\ndata: y\n\n')
  expect(events).toEqual([{ event: 'message', data: 'y' }])
})

test('a connection that says nothing is given up', async () => {
  network.use(
    http.get('https://hub.test/silent', () => new HttpResponse(new ReadableStream({ start() {} }))),
  )
  const opened = vi.fn()
  const reading = readEvents(
    '/silent',
    { onOpen: opened, onEvent: () => undefined },
    new AbortController().signal,
    50,
  )
  await expect(reading).rejects.toMatchObject({ code: 'unreachable' })
  expect(opened).toHaveBeenCalledOnce()
})

test('a refusal is told apart from a lost connection', async () => {
  network.use(http.get('https://hub.test/refused', () => new HttpResponse(null, { status: 401 })))
  const handlers = { onOpen: vi.fn(), onEvent: vi.fn() }
  const reading = readEvents('/refused', handlers, new AbortController().signal)
  await expect(reading).rejects.toMatchObject({ status: 401 })
  expect(handlers.onOpen).not.toHaveBeenCalled()
})
