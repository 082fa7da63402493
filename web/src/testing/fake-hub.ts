// A hub of made-up answers for unit tests. It decides nothing: a test says what is answered.

import { HttpResponse, http } from 'msw'
import type { Schemas } from '../hub/client'
import { network } from './network'

const at = (path: string) => `https://hub.test${path}`

/** Answers `GET path` with a body from now on; later words win over earlier ones. */
export function answers(path: string, body: Record<string, unknown>): void {
  network.use(http.get(at(path), () => HttpResponse.json(body)))
}

/** Refuses `method path` the way the hub does. */
export function refuses(
  method: 'get' | 'post' | 'delete',
  path: string,
  status: number,
  error: Partial<Schemas['ErrorBody']['error']>,
): void {
  const body = { error: { code: 'refused', message: '', hint: null, policies: [], ...error } }
  network.use(http[method](at(path), () => HttpResponse.json(body, { status })))
}

/** Takes `method path` and remembers what was sent. */
export function takes(
  method: 'post' | 'delete',
  path: string,
  status: number,
  body?: Record<string, unknown>,
): { sent: unknown[] } {
  const taken: { sent: unknown[] } = { sent: [] }
  network.use(
    http[method](at(path), async ({ request }) => {
      taken.sent.push(await request.json().catch(() => null))
      return body ? HttpResponse.json(body, { status }) : new HttpResponse(null, { status })
    }),
  )
  return taken
}

/** Opens the change feed; the returned function announces a change, `hangUp` ends the connection. */
export function changeFeed() {
  const encoder = new TextEncoder()
  let feed: ReadableStreamDefaultController<Uint8Array> | undefined
  let opened = 0
  network.use(
    http.get(at('/api/v1/events'), () => {
      opened += 1
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => {
          feed = controller
          controller.enqueue(encoder.encode(': hello\n\n'))
        },
      })
      return new HttpResponse(body, { headers: { 'content-type': 'text/event-stream' } })
    }),
  )
  return {
    announce: (noun: string) =>
      feed?.enqueue(encoder.encode(`event: change\ndata: {"noun":"${noun}"}\n\n`)),
    hangUp: () => feed?.close(),
    get opened() {
      return opened
    },
  }
}

export const ada: Schemas['Me'] = {
  user: { id: 'u-ada', email: 'ada@example.test', name: 'Ada Lovelace' },
  organization: { id: 'o-acme', slug: 'acme', name: 'Acme' },
  roles: ['developer'],
  groups: ['developers'],
  may: { manage_service_accounts: false },
}

export function aTeamspace(about: Partial<Schemas['Teamspace']> = {}): Schemas['Teamspace'] {
  return {
    id: 't-staging',
    name: 'staging',
    status: 'connected',
    key_thumbprint: 'SHA256:0mQ4sW3K8nJ1fVt5cXb9yZrLhPqE2uGdTaMiOwUeRk8',
    replicas: [
      { name: 'fairlead-agent-7c9d-x2x', version: '0.1.0', connected_at: '2026-01-01T10:00:00Z' },
    ],
    services: 1,
    created_at: '2026-01-01T09:00:00Z',
    may: { enrol: false, delete: false },
    ...about,
  }
}

export function aService(about: Partial<Schemas['Service']> = {}): Schemas['Service'] {
  return {
    namespace: 'shop',
    name: 'cart',
    type: 'ClusterIP',
    ports: [{ name: 'http', port: 80, protocol: 'TCP', target_port: 'http' }],
    workload: 'Deployment/cart',
    ready_endpoints: 3,
    may: { consume: true, intercept: true },
    intercept_refusal: null,
    intercepts: [],
    ...about,
  }
}

export function aSession(about: Partial<Schemas['Session']> = {}): Schemas['Session'] {
  return {
    id: 's-1',
    kind: 'intercept',
    teamspace: { id: 't-staging', name: 'staging' },
    user: { id: 'u-ada', email: 'ada@example.test' },
    device: { id: 'd-1', name: 'adas-laptop' },
    service: 'shop/cart',
    ports: [{ service_port: 80, laptop_port: 8080 }],
    phase: 'active',
    detail: null,
    created_at: '2026-01-01T10:00:00Z',
    ended_at: null,
    end_reason: null,
    may: { end: true },
    ...about,
  }
}
