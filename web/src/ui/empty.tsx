// What is shown where nothing is yet: why, and what to do about it.

import { Text } from '@mantine/core'
import type { ReactNode } from 'react'
import classes from './empty.module.css'

interface EmptyProps {
  icon: ReactNode
  title: string
  children?: ReactNode
  action?: ReactNode
}

export function Empty({ icon, title, children, action }: EmptyProps) {
  return (
    <div className={classes.empty}>
      <div className={classes.icon} aria-hidden>
        {icon}
      </div>
      <Text fw={650}>{title}</Text>
      {children && (
        <Text component="div" c="dimmed" size="sm" maw="32rem">
          {children}
        </Text>
      )}
      {action}
    </div>
  )
}
