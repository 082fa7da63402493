// Which group of the identity provider gets which role.

import { ActionIcon, Button, Group, NativeSelect, TextInput } from '@mantine/core'
import { randomId } from '@mantine/hooks'
import { IconPlus, IconX } from '@tabler/icons-react'
import classes from './group-roles.module.css'
import { Part } from './part'
import type { SetupForm } from './setup-form'

/** The built-in roles, in the words of their purpose. Before there is an organization the hub lists none. */
const roles = [
  { value: 'developer', label: 'Developer' },
  { value: 'viewer', label: 'Viewer' },
  { value: 'admin', label: 'Admin' },
  { value: 'auditor', label: 'Auditor' },
  { value: 'owner', label: 'Owner' },
]

export function GroupRoles({ form }: { form: SetupForm }) {
  const { groupRoles } = form.values
  return (
    <Part
      title="Groups and roles"
      about="Members of a group get its role when they sign in. You can change this later."
    >
      {groupRoles.map(({ key }, index) => (
        <div key={key} className={classes.row}>
          <TextInput
            aria-label={`Group ${index + 1}`}
            placeholder="developers"
            {...form.getInputProps(`groupRoles.${index}.group`)}
          />
          <NativeSelect
            aria-label={`Role of group ${index + 1}`}
            data={roles}
            {...form.getInputProps(`groupRoles.${index}.role`)}
          />
          <ActionIcon
            variant="subtle"
            color="gray"
            size="lg"
            aria-label={`Remove group ${index + 1}`}
            onClick={() => form.removeListItem('groupRoles', index)}
          >
            <IconX size={16} />
          </ActionIcon>
        </div>
      ))}
      <Group>
        <Button
          variant="default"
          size="xs"
          leftSection={<IconPlus size={14} aria-hidden />}
          onClick={() =>
            form.insertListItem('groupRoles', { key: randomId(), group: '', role: 'developer' })
          }
        >
          Add a group
        </Button>
      </Group>
    </Part>
  )
}
