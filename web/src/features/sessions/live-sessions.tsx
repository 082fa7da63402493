// Who is doing what right now, in one teamspace or in all that I may see.

import { Skeleton } from '@mantine/core'
import { IconRipple } from '@tabler/icons-react'
import { ask } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { counted } from '../../ui/counted'
import { Empty } from '../../ui/empty'
import { Panel, Section } from '../../ui/page'
import { ProblemNotice } from '../../ui/problem-notice'
import { Tag } from '../../ui/tag'
import { SessionsTable } from './sessions-table'

export function LiveSessions({ teamspace }: { teamspace?: { id: string; name: string } }) {
  const list = ask.useQuery('get', '/api/v1/sessions', { params: { query: { live: true } } })
  const sessions = (list.data?.sessions ?? []).filter(
    (session) => !teamspace || session.teamspace.id === teamspace.id,
  )
  return (
    <Section
      title="Live sessions"
      beside={
        sessions.length > 0 && <Tag meaning="calm">{counted(sessions.length, 'session')}</Tag>
      }
    >
      {list.isPending ? (
        <Skeleton h={160} radius="lg" aria-busy aria-label="Loading sessions" />
      ) : !list.data ? (
        <ProblemNotice problem={asProblem(list.error)} retry={() => void list.refetch()} />
      ) : (
        <Panel>
          {sessions.length === 0 ? (
            <Quiet where={teamspace ? ` in ${teamspace.name}` : ''} />
          ) : (
            <SessionsTable sessions={sessions} showTeamspace={!teamspace} />
          )}
        </Panel>
      )}
    </Section>
  )
}

function Quiet({ where }: { where: string }) {
  return (
    <Empty icon={<IconRipple size={22} />} title={`Nobody is connected${where}`}>
      Sessions begin on a laptop: <code>fairlead consume shop/*</code> to reach services,{' '}
      <code>fairlead intercept shop/cart 8080</code> to take one over.
    </Empty>
  )
}
