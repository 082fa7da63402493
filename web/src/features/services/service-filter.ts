// Finds services by what people remember of them: any part of name, namespace, workload, port, or who holds it.

import type { Schemas } from '../../hub/client'

type Service = Schemas['Service']

/** Keeps the services in which every word occurs somewhere. */
export function matching(services: readonly Service[], text: string): Service[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean)
  return services.filter((service) => {
    const haystack = textOf(service)
    return words.every((word) => haystack.includes(word))
  })
}

function textOf(service: Service): string {
  const ports = service.ports.map(({ name, port, protocol }) => `${name} ${port} ${protocol}`)
  const people = service.intercepts.map(({ email }) => email)
  return [
    `${service.namespace}/${service.name}`,
    `${service.name}.${service.namespace}`,
    service.type,
    service.workload ?? '',
    ...ports,
    ...people,
  ]
    .join(' ')
    .toLowerCase()
}
