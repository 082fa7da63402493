// Sessions that are over, the latest first, with why they ended.

import { Skeleton } from '@mantine/core'
import { ask } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { Panel, Section } from '../../ui/page'
import { ProblemNotice } from '../../ui/problem-notice'
import { SessionsTable } from './sessions-table'

const SHOWN = 50

export function EndedSessions() {
  const list = ask.useQuery('get', '/api/v1/sessions', { params: { query: { live: false } } })
  const ended = (list.data?.sessions ?? [])
    .filter(({ ended_at }) => ended_at)
    .sort((one, other) => (other.ended_at ?? '').localeCompare(one.ended_at ?? ''))
    .slice(0, SHOWN)
  if (list.data && ended.length === 0) return null
  return (
    <Section title="Ended">
      {list.isPending ? (
        <Skeleton h={160} radius="lg" aria-busy aria-label="Loading ended sessions" />
      ) : list.data ? (
        <Panel>
          <SessionsTable sessions={ended} showTeamspace ended />
        </Panel>
      ) : (
        <ProblemNotice problem={asProblem(list.error)} retry={() => void list.refetch()} />
      )}
    </Section>
  )
}
