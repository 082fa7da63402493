// First run: the one-time address printed by the hub leads here.

import { Anchor, Button, Skeleton, Stack, Text, Title } from '@mantine/core'
import { useDocumentTitle } from '@mantine/hooks'
import { IconCircleCheck } from '@tabler/icons-react'
import { useState } from 'react'
import { ask } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { Ago } from '../../ui/ago'
import { Card, Doorstep } from '../../ui/doorstep'
import { ProblemNotice } from '../../ui/problem-notice'
import { signInAddress } from '../account/sign-in'
import { SetupFields } from './setup-fields'

export function SetupPage({ token }: { token: string | undefined }) {
  useDocumentTitle('Set up · Fairlead')
  const [ownerEmail, setOwnerEmail] = useState<string | null>(null)
  return (
    <Doorstep wide>
      <Card>
        {ownerEmail !== null ? (
          <Done ownerEmail={ownerEmail} />
        ) : token ? (
          <Open token={token} done={setOwnerEmail} />
        ) : (
          <NotOpen />
        )}
      </Card>
    </Doorstep>
  )
}

function Open({ token, done }: { token: string; done: (ownerEmail: string) => void }) {
  const setup = ask.useQuery(
    'get',
    '/api/v1/setup',
    { params: { query: { token } } },
    { refetchOnWindowFocus: false },
  )
  if (setup.isPending) return <Skeleton h={480} aria-busy aria-label="Checking the setup link" />
  if (setup.isError) {
    const problem = asProblem(setup.error)
    if (!problem.isPassing) return <NotOpen />
    return (
      <Stack>
        <Title order={1} size="h3">
          Set up this hub
        </Title>
        <ProblemNotice problem={problem} retry={() => void setup.refetch()} />
      </Stack>
    )
  }
  return (
    <Stack gap="xl">
      <div>
        <Title order={1} size="h3">
          Set up this hub
        </Title>
        <Text c="dimmed" size="sm" mt={4}>
          Your organization, its first owner, and the identity provider that signs people in.
          Fairlead itself keeps no passwords. This link expires <Ago at={setup.data.expires_at} />.
        </Text>
      </div>
      <SetupFields token={token} done={done} />
    </Stack>
  )
}

function NotOpen() {
  return (
    <Stack>
      <Title order={1} size="h3">
        This setup link is not valid
      </Title>
      <Text size="sm">
        It was used already, is older than 30 minutes, or is incomplete. Whoever runs the hub gets a
        new one on its host: <code>fairlead-hub admin setup-url</code>
      </Text>
      <Anchor href="/sign-in" size="sm">
        Go to the sign-in
      </Anchor>
    </Stack>
  )
}

function Done({ ownerEmail }: { ownerEmail: string }) {
  return (
    <Stack align="flex-start">
      <IconCircleCheck size={36} color="var(--good-dot)" aria-hidden />
      <Title order={1} size="h3">
        The hub is ready
      </Title>
      <Text size="sm">
        Sign in as <strong>{ownerEmail}</strong>, the first owner. Then create a teamspace and
        connect your cluster.
      </Text>
      <Button component="a" href={signInAddress('/', ownerEmail)}>
        Sign in
      </Button>
    </Stack>
  )
}
