// Deletes a service account, after its name was typed: all its tokens go, and whatever lives by them.

import { Button, Group, Modal, Stack, Text, TextInput } from '@mantine/core'
import { notifications } from '@mantine/notifications'
import { useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { ask } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { ProblemNotice } from '../../ui/problem-notice'
import { LIST } from './list'
import type { Account } from './service-accounts-page'

export function DeleteAccount({ account, close }: { account: Account | null; close: () => void }) {
  return (
    <Modal
      opened={account !== null}
      onClose={close}
      title={account && `Delete ${account.name}?`}
      centered
    >
      {account && <DeleteForm account={account} close={close} />}
    </Modal>
  )
}

function DeleteForm({ account, close }: { account: Account; close: () => void }) {
  const { id, name } = account
  const [typed, setTyped] = useState('')
  const queries = useQueryClient()
  const remove = ask.useMutation('delete', '/api/v1/service-accounts/{id}', {
    onSuccess: () => {
      close()
      notifications.show({ message: `The service account ${name} is gone.` })
    },
    onSettled: () => void queries.invalidateQueries(LIST),
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    remove.mutate({ params: { path: { id } } })
  }
  return (
    <form onSubmit={submit}>
      <Stack>
        <Text size="sm">
          All its tokens stop to count and every session of it ends. What it did stays in the audit
          log.
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
            Delete account
          </Button>
        </Group>
      </Stack>
    </form>
  )
}
