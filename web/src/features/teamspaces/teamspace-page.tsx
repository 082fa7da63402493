// One teamspace: its agent, its services, and who is doing what with them.

import { Anchor, Button, Skeleton } from '@mantine/core'
import { useDisclosure } from '@mantine/hooks'
import { IconTrash } from '@tabler/icons-react'
import { Link } from '@tanstack/react-router'
import { ask, type Schemas } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { Page } from '../../ui/page'
import { ProblemNotice } from '../../ui/problem-notice'
import { Services } from '../services/services'
import { LiveSessions } from '../sessions/live-sessions'
import { AgentFacts } from './agent-facts'
import { DeleteTeamspace } from './delete-teamspace'
import { EnrolPanel } from './enrol-panel'
import { TeamspaceStatus } from './teamspace-status'

const above = (
  <Anchor component={Link} to="/" size="sm">
    ← Teamspaces
  </Anchor>
)

export function TeamspacePage({ id }: { id: string }) {
  const teamspace = ask.useQuery('get', '/api/v1/teamspaces/{id}', { params: { path: { id } } })
  if (teamspace.isPending) {
    return (
      <Page title="Teamspace" above={above}>
        <Skeleton h={92} radius="lg" aria-busy aria-label="Loading the teamspace" />
        <Skeleton h={320} radius="lg" />
      </Page>
    )
  }
  if (!teamspace.data || (teamspace.isError && asProblem(teamspace.error).isMissing)) {
    return (
      <Page title="Teamspace" above={above}>
        <ProblemNotice
          problem={asProblem(teamspace.error)}
          retry={() => void teamspace.refetch()}
        />
      </Page>
    )
  }
  return <Shown teamspace={teamspace.data} />
}

function Shown({ teamspace }: { teamspace: Schemas['Teamspace'] }) {
  const [deleting, dialog] = useDisclosure(false)
  const { id, name, status, may } = teamspace
  return (
    <Page
      title={name}
      above={above}
      beside={<TeamspaceStatus status={status} />}
      actions={
        may.delete && (
          <Button
            variant="default"
            leftSection={<IconTrash size={16} aria-hidden />}
            onClick={dialog.open}
          >
            Delete
          </Button>
        )
      }
    >
      <DeleteTeamspace teamspace={teamspace} opened={deleting} close={dialog.close} />
      {status === 'waiting' ? (
        <EnrolPanel teamspace={teamspace} />
      ) : (
        <>
          <AgentFacts teamspace={teamspace} />
          <Services teamspace={teamspace} />
          <LiveSessions teamspace={{ id, name }} />
        </>
      )}
    </Page>
  )
}
