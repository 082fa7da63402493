// Deletes a teamspace, after its name was typed: every session in it ends, and its agent is no longer let in.

import { Button, Group, Modal, Stack, Text, TextInput } from '@mantine/core'
import { useQueryClient } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import { type FormEvent, useState } from 'react'
import { ask, type Schemas } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { ProblemNotice } from '../../ui/problem-notice'

interface DeleteTeamspaceProps {
  teamspace: Schemas['Teamspace']
  opened: boolean
  close: () => void
}

export function DeleteTeamspace({ teamspace, opened, close }: DeleteTeamspaceProps) {
  return (
    <Modal opened={opened} onClose={close} title={`Delete ${teamspace.name}?`} centered>
      <DeleteForm teamspace={teamspace} close={close} />
    </Modal>
  )
}

function DeleteForm({ teamspace, close }: Omit<DeleteTeamspaceProps, 'opened'>) {
  const { id, name } = teamspace
  const [typed, setTyped] = useState('')
  const queries = useQueryClient()
  const navigate = useNavigate()
  const remove = ask.useMutation('delete', '/api/v1/teamspaces/{id}', {
    onSuccess: async () => {
      close()
      await navigate({ to: '/' })
      void queries.invalidateQueries()
    },
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    remove.mutate({ params: { path: { id } } })
  }
  return (
    <form onSubmit={submit}>
      <Stack>
        <Text size="sm">
          Every session in it ends and intercepted services are given back. Its agent is not let in
          again: uninstall the chart in the cluster afterwards.
        </Text>
        <TextInput
          label={`Type ${name} to confirm`}
          data-autofocus
          value={typed}
          onChange={(event) => setTyped(event.currentTarget.value)}
        />
        {remove.isError && <ProblemNotice problem={asProblem(remove.error)} />}
        <Group justify="flex-end">
          <Button variant="default" onClick={close}>
            Cancel
          </Button>
          <Button type="submit" color="red.8" disabled={typed !== name} loading={remove.isPending}>
            Delete teamspace
          </Button>
        </Group>
      </Stack>
    </form>
  )
}
