// What a session is about, in the words of the command that began it.

import type { Schemas } from '../../hub/client'

/** "shop/cart :80 → laptop :8080" of an intercept, the patterns of a consume. */
export function subjectOf(session: Schemas['Session']): string {
  if (session.kind === 'consume') return (session.patterns ?? []).join(' ')
  const ports = (session.ports ?? []).map(
    ({ service_port, laptop_port }) => `:${service_port} → laptop :${laptop_port}`,
  )
  return [session.service ?? '', ports.join(', ')].filter(Boolean).join(' ')
}
