// Connects a cluster: makes a join token, shows it once inside the command that uses it, and waits for the agent.

import { Alert, Button, Group, Loader, Stack, Text, TextInput } from '@mantine/core'
import { IconInfoCircle, IconKey } from '@tabler/icons-react'
import { useState } from 'react'
import { ask, type Schemas } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { Ago } from '../../ui/ago'
import { Command } from '../../ui/copy'
import { Section } from '../../ui/page'
import { ProblemNotice } from '../../ui/problem-notice'
import classes from './enrol-panel.module.css'
import { helmCommand } from './helm-command'

export function EnrolPanel({ teamspace }: { teamspace: Schemas['Teamspace'] }) {
  const { id, may } = teamspace
  const token = ask.useMutation('post', '/api/v1/teamspaces/{id}/join-tokens')
  const [image, setImage] = useState('')
  const make = () => token.mutate({ params: { path: { id } } })
  return (
    <Section title="Connect the cluster">
      <ol className={classes.steps}>
        <li className={classes.step}>
          <Stack gap="sm">
            <Text fw={600}>Get a join token</Text>
            <Text size="sm" c="dimmed">
              It lets one agent join this teamspace, once, within 30 minutes. It is shown only here
              and only now; the hub keeps a hash of it.
            </Text>
            {may.enrol ? (
              <Group>
                <Button
                  variant={token.data ? 'default' : 'filled'}
                  leftSection={<IconKey size={16} aria-hidden />}
                  loading={token.isPending}
                  onClick={make}
                >
                  {token.data ? 'Make another token' : 'Make a join token'}
                </Button>
              </Group>
            ) : (
              <Text size="sm">You may not connect clusters. Ask an owner or admin.</Text>
            )}
            {token.isError && <ProblemNotice problem={asProblem(token.error)} />}
          </Stack>
        </li>
        <li className={classes.step} data-later={!token.data}>
          <Stack gap="sm">
            <Text fw={600}>
              Run this in a checkout of Fairlead, where kubectl reaches the cluster
            </Text>
            {token.data ? (
              <>
                <TextInput
                  label="Image of the agent"
                  description="Where the cluster pulls it from, and its tag. deploy/images/README.md says how it is made."
                  placeholder="registry.example.com/fairlead-agent:1"
                  value={image}
                  onChange={(event) => setImage(event.currentTarget.value)}
                />
                <Command
                  text={helmCommand(image, globalThis.location.origin, token.data.token)}
                  what="Helm command"
                />
                <Text size="sm" c="dimmed">
                  The token expires <Ago at={token.data.expires_at} />. If this hub's certificate is
                  not from a public authority, add{' '}
                  <code>--set-file hub.caCertificate=hub-ca.crt</code>.
                </Text>
              </>
            ) : (
              <Text size="sm" c="dimmed">
                A Helm command with the token in it appears here.
              </Text>
            )}
          </Stack>
        </li>
        <li className={classes.step} data-later={!token.data}>
          <Stack gap="sm">
            <Text fw={600}>Compare the key</Text>
            <Text size="sm" c="dimmed">
              The agent makes the teamspace's key inside the cluster and logs its thumbprint. This
              page shows the one the hub received: they must be equal.
            </Text>
            {token.data && (
              <Group gap="xs">
                <Loader size={14} aria-hidden />
                <Text size="sm" role="status">
                  Waiting for the agent…
                </Text>
              </Group>
            )}
          </Stack>
        </li>
      </ol>
      {token.data && (
        <Alert variant="default" icon={<IconInfoCircle />} title="Keep this page open">
          The token cannot be shown again. Leaving is harmless: make another one when you come back.
        </Alert>
      )}
    </Section>
  )
}
