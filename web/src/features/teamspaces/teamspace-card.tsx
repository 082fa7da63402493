// One teamspace among others: is it there, and what is in it.

import { Link } from '@tanstack/react-router'
import type { Schemas } from '../../hub/client'
import { Ago } from '../../ui/ago'
import { counted } from '../../ui/counted'
import classes from './teamspace-card.module.css'
import { TeamspaceStatus } from './teamspace-status'

export function TeamspaceCard({ teamspace }: { teamspace: Schemas['Teamspace'] }) {
  const { id, name, status, services, replicas, created_at } = teamspace
  return (
    <li className={classes.card}>
      <div className={classes.top}>
        <Link to="/teamspaces/$id" params={{ id }} className={classes.name}>
          {name}
        </Link>
        <TeamspaceStatus status={status} />
      </div>
      <dl className={classes.facts}>
        <div>
          <dt>Services</dt>
          <dd>{services}</dd>
        </div>
        <div>
          <dt>Agent</dt>
          <dd>{replicas.length > 0 ? counted(replicas.length, 'replica') : 'none'}</dd>
        </div>
        <div>
          <dt>Created</dt>
          <dd>
            <Ago at={created_at} />
          </dd>
        </div>
      </dl>
    </li>
  )
}
