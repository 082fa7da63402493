// Makes a service account: its name, what it may do, and where.

import { Button, Checkbox, Group, Modal, Radio, Stack, TextInput } from '@mantine/core'
import { useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { ask } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { ProblemNotice } from '../../ui/problem-notice'
import { LIST } from './list'

const ROLES = [
  { value: 'developer', label: 'Developer: consumes and intercepts services' },
  { value: 'viewer', label: 'Viewer: sees services and who is doing what' },
]

export function NewServiceAccount({ opened, close }: { opened: boolean; close: () => void }) {
  return (
    <Modal opened={opened} onClose={close} title="New service account" centered>
      <NewServiceAccountForm close={close} />
    </Modal>
  )
}

function NewServiceAccountForm({ close }: { close: () => void }) {
  const [name, setName] = useState('')
  const [role, setRole] = useState('developer')
  const [only, setOnly] = useState<string[]>([])
  const queries = useQueryClient()
  const teamspaces = ask.useQuery('get', '/api/v1/teamspaces').data?.teamspaces ?? []
  const create = ask.useMutation('post', '/api/v1/service-accounts', {
    onSuccess: () => {
      void queries.invalidateQueries(LIST)
      close()
    },
  })
  const submit = (event: FormEvent) => {
    event.preventDefault()
    const everywhere = only.length === 0
    create.mutate({
      body: { name: name.trim(), roles: [role], ...(everywhere ? {} : { teamspaces: only }) },
    })
  }
  return (
    <form onSubmit={submit}>
      <Stack>
        <TextInput
          label="Name"
          description="Lower-case letters, digits and hyphens. It stands in the audit log."
          placeholder="ci-tests"
          required
          data-autofocus
          maxLength={63}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <Radio.Group label="Role" value={role} onChange={setRole}>
          <Stack gap="xs" mt="xs">
            {ROLES.map(({ value, label }) => (
              <Radio key={value} value={value} label={label} />
            ))}
          </Stack>
        </Radio.Group>
        {teamspaces.length > 0 && (
          <Checkbox.Group
            label="Only in these teamspaces"
            description="With none chosen it is in every one, those to come included."
            value={only}
            onChange={setOnly}
          >
            <Stack gap="xs" mt="xs">
              {teamspaces.map((teamspace) => (
                <Checkbox key={teamspace.id} value={teamspace.id} label={teamspace.name} />
              ))}
            </Stack>
          </Checkbox.Group>
        )}
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
