// Sessions as a table: who, what, where, since when; and the way to end one, if the hub says that I may.

import { Anchor, Button } from '@mantine/core'
import { Link } from '@tanstack/react-router'
import { useState } from 'react'
import type { Schemas } from '../../hub/client'
import { Ago } from '../../ui/ago'
import { Person } from '../../ui/person'
import tables from '../../ui/table.module.css'
import { Tag } from '../../ui/tag'
import { useMe } from '../account/me'
import { EndSession } from './end-session'
import { PhaseTag } from './phase'
import classes from './sessions-table.module.css'
import { subjectOf } from './subject'

type Session = Schemas['Session']

interface SessionsTableProps {
  sessions: Session[]
  showTeamspace: boolean
  /** Whether these are over: then the moment shown is their end. */
  ended?: boolean
}

export function SessionsTable({ sessions, showTeamspace, ended = false }: SessionsTableProps) {
  const [ending, setEnding] = useState<Session | null>(null)
  return (
    <>
      <table className={tables.table}>
        <thead>
          <tr>
            <th scope="col">Who</th>
            <th scope="col" className={tables.wide}>
              What
            </th>
            {showTeamspace && (
              <th scope="col" className={tables.wide}>
                Teamspace
              </th>
            )}
            <th scope="col" className={tables.wide}>
              {ended ? 'Ended' : 'Since'}
            </th>
            <th scope="col">Phase</th>
          </tr>
        </thead>
        <tbody>
          {sessions.map((session) => (
            <Row
              key={session.id}
              session={session}
              showTeamspace={showTeamspace}
              end={() => setEnding(session)}
            />
          ))}
        </tbody>
      </table>
      <EndSession session={ending} close={() => setEnding(null)} />
    </>
  )
}

interface RowProps {
  session: Session
  showTeamspace: boolean
  end: () => void
}

function Row({ session, showTeamspace, end }: RowProps) {
  const me = useMe()
  const { kind, user, device, teamspace, phase, detail, may } = session
  const moment = session.ended_at ?? session.created_at
  return (
    <tr>
      <th scope="row">
        <Person email={user.email} me={user.id === me.data?.user.id} />
        <span className={classes.device}>{device.name}</span>
        <span className={tables.narrow}>
          <What session={session} />
          {showTeamspace && <span className={classes.line}>{teamspace.name}</span>}
          <span className={classes.line}>
            <Ago at={moment} />
          </span>
        </span>
      </th>
      <td className={tables.wide}>
        <What session={session} />
      </td>
      {showTeamspace && (
        <td className={tables.wide}>
          <Anchor component={Link} to={`/teamspaces/${teamspace.id}`} size="sm">
            {teamspace.name}
          </Anchor>
        </td>
      )}
      <td className={tables.wide}>
        <Ago at={moment} />
      </td>
      <td>
        <span className={classes.phase}>
          <PhaseTag phase={phase} detail={session.end_reason ?? detail} />
          {may.end && !session.ended_at && (
            <Button
              variant="default"
              size="compact-sm"
              onClick={end}
              aria-label={`End the ${kind} of ${user.email}: ${subjectOf(session)}`}
            >
              End
            </Button>
          )}
        </span>
      </td>
    </tr>
  )
}

function What({ session }: { session: Session }) {
  return (
    <span className={classes.what}>
      <Tag meaning={session.kind === 'intercept' ? 'violet' : 'tide'}>{session.kind}</Tag>
      <code className={classes.subject}>{subjectOf(session)}</code>
    </span>
  )
}
