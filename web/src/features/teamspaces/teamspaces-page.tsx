// The clusters this organization has enrolled: the first page after sign-in.

import { Button, SimpleGrid, Skeleton } from '@mantine/core'
import { useDisclosure } from '@mantine/hooks'
import { IconPlus, IconSailboat } from '@tabler/icons-react'
import { ask, type Schemas } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { Empty } from '../../ui/empty'
import { Page, Panel } from '../../ui/page'
import { ProblemNotice } from '../../ui/problem-notice'
import { LiveSessions } from '../sessions/live-sessions'
import { NewTeamspace } from './new-teamspace'
import { TeamspaceCard } from './teamspace-card'

export function TeamspacesPage() {
  const list = ask.useQuery('get', '/api/v1/teamspaces')
  const [creating, dialog] = useDisclosure(false)
  const mayCreate = list.data?.may.create ?? false
  const create = (
    <Button leftSection={<IconPlus size={16} aria-hidden />} onClick={dialog.open}>
      New teamspace
    </Button>
  )
  return (
    <Page
      title="Teamspaces"
      lead="A teamspace is one Kubernetes cluster that your organization has connected to this hub."
      actions={mayCreate && list.data?.teamspaces.length !== 0 && create}
    >
      <NewTeamspace opened={creating} close={dialog.close} />
      {list.isPending ? (
        <Loading />
      ) : list.data ? (
        <>
          <Teamspaces teamspaces={list.data.teamspaces} create={mayCreate && create} />
          {list.data.teamspaces.length > 0 && <LiveSessions />}
        </>
      ) : (
        <ProblemNotice problem={asProblem(list.error)} retry={() => void list.refetch()} />
      )}
    </Page>
  )
}

interface TeamspacesProps {
  teamspaces: Schemas['Teamspace'][]
  create: React.ReactNode
}

function Teamspaces({ teamspaces, create }: TeamspacesProps) {
  if (teamspaces.length === 0) return <NoTeamspaces create={create} />
  return (
    <SimpleGrid component="ul" cols={{ base: 1, sm: 2, lg: 3 }} p={0} m={0} className="plain-list">
      {teamspaces.map((teamspace) => (
        <TeamspaceCard key={teamspace.id} teamspace={teamspace} />
      ))}
    </SimpleGrid>
  )
}

function NoTeamspaces({ create }: { create: React.ReactNode }) {
  return (
    <Panel>
      <Empty icon={<IconSailboat size={22} />} title="No cluster is connected yet" action={create}>
        {create
          ? 'Create a teamspace and run one Helm command in the cluster. Its agent dials out to this hub: nothing in the cluster listens for the outside world.'
          : 'Teamspaces that you may see appear here. Ask an owner or admin of your organization to create one or to give you a role.'}
      </Empty>
    </Panel>
  )
}

function Loading() {
  return (
    <SimpleGrid cols={{ base: 1, sm: 2, lg: 3 }} aria-busy aria-label="Loading teamspaces">
      {['first', 'second', 'third'].map((card) => (
        <Skeleton key={card} h={148} radius="lg" />
      ))}
    </SimpleGrid>
  )
}
