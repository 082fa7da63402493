// Ends a session: mine, or somebody else's after a word about what that does to them.

import { Button, Group, Modal, Stack, Text } from '@mantine/core'
import { notifications } from '@mantine/notifications'
import { useQueryClient } from '@tanstack/react-query'
import { ask, type Schemas } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { ProblemNotice } from '../../ui/problem-notice'
import { useMe } from '../account/me'
import { subjectOf } from './subject'

type Session = Schemas['Session']

export function EndSession({ session, close }: { session: Session | null; close: () => void }) {
  return (
    <Modal opened={session !== null} onClose={close} title="End this session?" centered>
      {session && <Confirm session={session} close={close} />}
    </Modal>
  )
}

function Confirm({ session, close }: { session: Session; close: () => void }) {
  const me = useMe()
  const queries = useQueryClient()
  const end = ask.useMutation('delete', '/api/v1/sessions/{id}', {
    onSuccess: () => {
      close()
      notifications.show({ message: `The ${session.kind} of ${session.user.email} has ended.` })
    },
    // Ended by others meanwhile, or refused: either way the list is not what it was.
    onSettled: () => void queries.invalidateQueries({ queryKey: ['get', '/api/v1/sessions'] }),
  })
  const mine = session.user.id === me.data?.user.id
  return (
    <Stack>
      <Text size="sm">
        {mine ? 'Your' : `${session.user.email}’s`} {session.kind} of{' '}
        <code>{subjectOf(session)}</code> in {session.teamspace.name} ends within two seconds, with
        the connections it carries.{' '}
        {session.kind === 'intercept' && 'The service goes back to its pods.'}
      </Text>
      {end.isError && <ProblemNotice problem={asProblem(end.error)} />}
      <Group justify="flex-end">
        <Button variant="default" onClick={close} data-autofocus>
          Keep it
        </Button>
        <Button
          color="red.8"
          loading={end.isPending}
          onClick={() => end.mutate({ params: { path: { id: session.id } } })}
        >
          End session
        </Button>
      </Group>
    </Stack>
  )
}
