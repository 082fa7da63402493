// What I may do with a service, as the hub decided it: the command for what is allowed, the reason for what is not.

import { Popover, Text, UnstyledButton } from '@mantine/core'
import { IconArrowDownLeft, IconArrowUpRight, IconLock } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import type { Schemas } from '../../hub/client'
import { Command } from '../../ui/copy'
import classes from './may.module.css'

type Service = Schemas['Service']

export function May({ service }: { service: Service }) {
  const name = `${service.namespace}/${service.name}`
  const { may, intercept_refusal } = service
  const port = service.ports[0]?.port ?? 8080
  return (
    <span className={classes.may}>
      <Act
        verb="consume"
        service={name}
        allowed={may.consume}
        icon={<IconArrowUpRight size={13} aria-hidden />}
        about="Reach it from your laptop by its in-cluster name."
        command={`fairlead consume ${name}`}
        refusal="No policy lets you consume this service."
      />
      <Act
        verb="intercept"
        service={name}
        allowed={may.intercept}
        icon={<IconArrowDownLeft size={13} aria-hidden />}
        about="Take its requests to a port of your laptop."
        command={`fairlead intercept ${name} ${port < 1024 ? port + 8000 : port}`}
        refusal={intercept_refusal ?? 'No policy lets you intercept this service.'}
      />
    </span>
  )
}

interface ActProps {
  verb: 'consume' | 'intercept'
  service: string
  allowed: boolean
  icon: ReactNode
  about: string
  command: string
  refusal: string
}

function Act({ verb, service, allowed, icon, about, command, refusal }: ActProps) {
  return (
    <Popover width={400} position="bottom-start" withArrow trapFocus returnFocus>
      <Popover.Target>
        <UnstyledButton
          className={classes.act}
          data-verb={verb}
          data-allowed={allowed}
          aria-label={`${verb} ${service}: ${allowed ? 'allowed' : 'not allowed'}`}
        >
          {allowed ? icon : <IconLock size={12} aria-hidden />}
          {verb}
        </UnstyledButton>
      </Popover.Target>
      <Popover.Dropdown>
        <Text size="sm" mb={allowed ? 'xs' : 0}>
          {allowed ? about : refusal}
        </Text>
        {allowed && <Command text={command} />}
      </Popover.Dropdown>
    </Popover>
  )
}
