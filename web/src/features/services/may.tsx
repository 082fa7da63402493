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
  const port = service.ports[0]?.port ?? 8080
  return (
    <span className={classes.may}>
      <Act
        verb="consume"
        service={name}
        obstacle={consumeObstacle(service)}
        icon={<IconArrowUpRight size={13} aria-hidden />}
        about="Reach it from your laptop by its in-cluster name."
        command={`fairlead consume ${name}`}
      />
      <Act
        verb="intercept"
        service={name}
        obstacle={interceptObstacle(service)}
        icon={<IconArrowDownLeft size={13} aria-hidden />}
        about="Take its requests to a port of your laptop."
        command={`fairlead intercept ${name} ${port < 1024 ? port + 8000 : port}`}
      />
    </span>
  )
}

/** What stands in the way: a decision about me, or the nature of the service. */
interface Obstacle {
  word: 'not allowed' | 'not possible'
  reason: string
}

function consumeObstacle({ may }: Service): Obstacle | null {
  return may.consume
    ? null
    : { word: 'not allowed', reason: 'No policy lets you consume this service.' }
}

function interceptObstacle({ may, intercept_refusal }: Service): Obstacle | null {
  if (!may.intercept) {
    return { word: 'not allowed', reason: 'No policy lets you intercept this service.' }
  }
  return intercept_refusal ? { word: 'not possible', reason: intercept_refusal } : null
}

interface ActProps {
  verb: 'consume' | 'intercept'
  service: string
  obstacle: Obstacle | null
  icon: ReactNode
  about: string
  command: string
}

function Act({ verb, service, obstacle, icon, about, command }: ActProps) {
  return (
    <Popover width={400} position="bottom-start" withArrow trapFocus returnFocus>
      <Popover.Target>
        <UnstyledButton
          className={classes.act}
          data-verb={verb}
          data-open={!obstacle}
          aria-label={`${verb} ${service}: ${obstacle?.word ?? 'allowed'}`}
        >
          {obstacle ? <IconLock size={12} aria-hidden /> : icon}
          {verb}
        </UnstyledButton>
      </Popover.Target>
      <Popover.Dropdown>
        <Text size="sm" mb={obstacle ? 0 : 'xs'}>
          {obstacle?.reason ?? about}
        </Text>
        {!obstacle && <Command text={command} />}
      </Popover.Dropdown>
    </Popover>
  )
}
