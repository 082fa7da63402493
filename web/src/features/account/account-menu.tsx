// Who I am here, and the way out.

import { Avatar, Button, Popover, Text, UnstyledButton } from '@mantine/core'
import { IconLogout } from '@tabler/icons-react'
import { initialsOf } from '../../ui/person'
import classes from './account-menu.module.css'
import type { Me } from './me'
import { signOut } from './sign-out'

export function AccountMenu({ me }: { me: Me }) {
  const { user, organization, roles, groups } = me
  const initials = initialsOf(user.name || user.email)
  return (
    <Popover position="bottom-end" width={280} trapFocus returnFocus>
      <Popover.Target>
        <UnstyledButton
          className={classes.target}
          aria-label={`${initials}: account of ${user.email}`}
        >
          <Avatar size={30} color="tide" variant="filled">
            {initials}
          </Avatar>
        </UnstyledButton>
      </Popover.Target>
      <Popover.Dropdown>
        <Text fw={600} size="sm">
          {user.name || user.email}
        </Text>
        <Text size="xs" c="dimmed" className={classes.wrap}>
          {user.email}
        </Text>
        <dl className={classes.facts}>
          <dt>Organization</dt>
          <dd>{organization.name}</dd>
          <dt>Roles</dt>
          <dd>{roles.join(', ') || 'none'}</dd>
          <dt>Groups</dt>
          <dd>{groups.join(', ') || 'none'}</dd>
        </dl>
        <Button
          variant="default"
          size="xs"
          fullWidth
          mt="md"
          leftSection={<IconLogout size={16} aria-hidden />}
          onClick={() => void signOut()}
        >
          Sign out
        </Button>
      </Popover.Dropdown>
    </Popover>
  )
}
