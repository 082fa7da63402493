// The services as a table; on a narrow screen its lesser columns move under the name.

import type { Schemas } from '../../hub/client'
import tables from '../../ui/table.module.css'
import { PhaseTag } from '../sessions/phase'
import { May } from './may'
import classes from './services-table.module.css'

type Service = Schemas['Service']

export function ServicesTable({ services }: { services: Service[] }) {
  return (
    <table className={tables.table}>
      <thead>
        <tr>
          <th scope="col">Service</th>
          <th scope="col" className={tables.wide}>
            Ports
          </th>
          <th scope="col" className={tables.wide}>
            Workload
          </th>
          <th scope="col" className={tables.wide}>
            Ready
          </th>
          <th scope="col">You may</th>
          <th scope="col" className={tables.wide}>
            Intercepted by
          </th>
        </tr>
      </thead>
      <tbody>
        {services.map((service) => (
          <Row key={`${service.namespace}/${service.name}`} service={service} />
        ))}
      </tbody>
    </table>
  )
}

function Row({ service }: { service: Service }) {
  const { namespace, name, type, workload } = service
  return (
    <tr>
      <th scope="row">
        <span className={classes.name}>
          <span className={classes.namespace}>{namespace}/</span>
          {name}
        </span>
        {type !== 'ClusterIP' && <span className={classes.type}>{type}</span>}
        <span className={tables.narrow}>
          <Ports ports={service.ports} /> · <Ready service={service} /> ready
          {service.intercepts.length > 0 && <Holders intercepts={service.intercepts} />}
        </span>
      </th>
      <td className={tables.wide}>
        <Ports ports={service.ports} />
      </td>
      <td className={tables.wide}>
        {workload ? <span className={classes.workload}>{workload}</span> : <None />}
      </td>
      <td className={tables.wide}>
        <Ready service={service} />
      </td>
      <td>
        <May service={service} />
      </td>
      <td className={tables.wide}>
        <Holders intercepts={service.intercepts} />
      </td>
    </tr>
  )
}

function Ports({ ports }: { ports: Service['ports'] }) {
  if (ports.length === 0) return <None />
  return (
    <span className={classes.ports}>
      {ports.map(({ port, name, protocol, target_port }) => (
        <span
          key={`${port}/${protocol}`}
          className={classes.port}
          title={`${port}/${protocol} → ${target_port}`}
        >
          {port}
          {name && <span className={classes.portName}>{name}</span>}
          {protocol !== 'TCP' && <span className={classes.portName}>{protocol}</span>}
        </span>
      ))}
    </span>
  )
}

function Ready({ service }: { service: Service }) {
  const { type, ready_endpoints: count } = service
  // It has no pods of its own, so none of them can be missing.
  if (type === 'ExternalName') return <None />
  return (
    <span className={count === 0 ? classes.notReady : undefined}>
      {count === 0 ? 'none' : count}
    </span>
  )
}

function Holders({ intercepts }: { intercepts: Service['intercepts'] }) {
  if (intercepts.length === 0) return <None />
  return (
    <ul className={classes.holders}>
      {intercepts.map(({ session_id, email, phase }) => (
        <li key={session_id}>
          <span className={classes.holder}>{email}</span>
          <PhaseTag phase={phase} />
        </li>
      ))}
    </ul>
  )
}

/** An empty cell that is read as one. */
function None() {
  return (
    <span className={classes.none}>
      <span aria-hidden>–</span>
      <span className={tables.spoken}>none</span>
    </span>
  )
}
