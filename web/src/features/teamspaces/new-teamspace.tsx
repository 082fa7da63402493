// Asks for a name and creates a teamspace; its page then says how to connect the cluster.

import { Button, Group, Modal, Stack, Text, TextInput } from '@mantine/core'
import { useQueryClient } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import { type FormEvent, useState } from 'react'
import { ask } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { ProblemNotice } from '../../ui/problem-notice'

export function NewTeamspace({ opened, close }: { opened: boolean; close: () => void }) {
  return (
    <Modal opened={opened} onClose={close} title="New teamspace" centered>
      <NewTeamspaceForm close={close} />
    </Modal>
  )
}

function NewTeamspaceForm({ close }: { close: () => void }) {
  const [name, setName] = useState('')
  const queries = useQueryClient()
  const navigate = useNavigate()
  const create = ask.useMutation('post', '/api/v1/teamspaces', {
    onSuccess: async ({ id }) => {
      void queries.invalidateQueries({ queryKey: ['get', '/api/v1/teamspaces'] })
      close()
      await navigate({ to: '/teamspaces/$id', params: { id } })
    },
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    create.mutate({ body: { name: name.trim() } })
  }
  return (
    <form onSubmit={submit}>
      <Stack>
        <Text size="sm" c="dimmed">
          One teamspace for one cluster. Developers type its name, so keep it short.
        </Text>
        <TextInput
          label="Name"
          placeholder="staging"
          required
          data-autofocus
          maxLength={63}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        {create.isError && <ProblemNotice problem={asProblem(create.error)} />}
        <Group justify="flex-end">
          <Button variant="default" onClick={close}>
            Cancel
          </Button>
          <Button type="submit" loading={create.isPending}>
            Create
          </Button>
        </Group>
      </Stack>
    </form>
  )
}
