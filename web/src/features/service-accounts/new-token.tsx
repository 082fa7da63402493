// Makes a token of a service account, and shows it once, with what a job does with it.

import { Alert, Button, Group, Modal, NativeSelect, Stack, Text, TextInput } from '@mantine/core'
import { IconInfoCircle } from '@tabler/icons-react'
import { useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { ask, type Schemas } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { Ago } from '../../ui/ago'
import { Command } from '../../ui/copy'
import { ProblemNotice } from '../../ui/problem-notice'
import { LIST } from './list'
import type { Account } from './service-accounts-page'

const LIVES = [7, 30, 90]
const USUAL_DAYS = 30

export function NewToken({ account, close }: { account: Account | null; close: () => void }) {
  return (
    <Modal
      opened={account !== null}
      onClose={close}
      title={account && `New token of ${account.name}`}
      centered
      size="lg"
      // What is shown once must not vanish by a slip of the mouse.
      closeOnClickOutside={false}
    >
      {account && <NewTokenForm account={account} close={close} />}
    </Modal>
  )
}

function NewTokenForm({ account, close }: { account: Account; close: () => void }) {
  const [name, setName] = useState('')
  const [days, setDays] = useState(USUAL_DAYS)
  const queries = useQueryClient()
  const make = ask.useMutation('post', '/api/v1/service-accounts/{id}/tokens', {
    onSuccess: () => void queries.invalidateQueries(LIST),
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    make.mutate({ params: { path: { id: account.id } }, body: { name: name.trim(), days } })
  }
  if (make.data) return <ShownOnce made={make.data} close={close} />
  return (
    <form onSubmit={submit}>
      <Stack>
        <TextInput
          label="What is it for?"
          description="One token for each job or repository, so that each can be revoked alone."
          placeholder="github: shop/cart"
          required
          data-autofocus
          maxLength={100}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <NativeSelect
          label="It expires after"
          data={LIVES.map((life) => ({ value: String(life), label: `${life} days` }))}
          value={String(days)}
          onChange={(event) => setDays(Number(event.currentTarget.value))}
        />
        {make.isError && <ProblemNotice problem={asProblem(make.error)} />}
        <Group justify="flex-end">
          <Button variant="default" onClick={close}>
            Cancel
          </Button>
          <Button type="submit" loading={make.isPending}>
            Make the token
          </Button>
        </Group>
      </Stack>
    </form>
  )
}

function ShownOnce({ made, close }: { made: Schemas['ApiTokenMade']; close: () => void }) {
  const job = `export FAIRLEAD_HUB=${globalThis.location.origin}
fairlead run --consume 'shop/*' -- npm test`
  return (
    <Stack>
      <Alert variant="default" icon={<IconInfoCircle />} title="Copy it now">
        <Text size="sm">
          The token is shown only here and only now; the hub keeps a hash of it. It expires{' '}
          <Ago at={made.expires_at} />.
        </Text>
      </Alert>
      <Command text={made.token} what="token" />
      <Text size="sm">
        Keep it as the secret <code>FAIRLEAD_TOKEN</code> of the CI system. With that in its
        environment, the job needs no sign-in:
      </Text>
      <Command text={job} what="commands of the job" />
      <Group justify="flex-end">
        <Button onClick={close}>Done</Button>
      </Group>
    </Stack>
  )
}
