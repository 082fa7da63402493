// Revokes a token, after a word about what ends with it.

import { Button, Group, Modal, Stack, Text } from '@mantine/core'
import { notifications } from '@mantine/notifications'
import { useQueryClient } from '@tanstack/react-query'
import { ask } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { ProblemNotice } from '../../ui/problem-notice'
import { LIST } from './list'
import type { Account, Token } from './service-accounts-page'

interface Revoked {
  account: Account
  token: Token
}

export function RevokeToken({ revoked, close }: { revoked: Revoked | null; close: () => void }) {
  return (
    <Modal opened={revoked !== null} onClose={close} title="Revoke this token?" centered>
      {revoked && <Confirm {...revoked} close={close} />}
    </Modal>
  )
}

function Confirm({ account, token, close }: Revoked & { close: () => void }) {
  const queries = useQueryClient()
  const revoke = ask.useMutation('delete', '/api/v1/api-tokens/{id}', {
    onSuccess: () => {
      close()
      notifications.show({ message: `The token of ${account.name} for ${token.name} is revoked.` })
    },
    // Revoked by others meanwhile, or refused: either way the list is not what it was.
    onSettled: () => void queries.invalidateQueries(LIST),
  })
  return (
    <Stack>
      <Text size="sm">
        Jobs that signed in as {account.name} with the token for <strong>{token.name}</strong> are
        out at once: their sessions end, and their connections are cut within two seconds. Its other
        tokens go on.
      </Text>
      {revoke.isError && <ProblemNotice problem={asProblem(revoke.error)} />}
      <Group justify="flex-end">
        <Button variant="default" onClick={close} data-autofocus>
          Keep it
        </Button>
        <Button
          color="red.8"
          loading={revoke.isPending}
          onClick={() => revoke.mutate({ params: { path: { id: token.id } } })}
        >
          Revoke token
        </Button>
      </Group>
    </Stack>
  )
}
