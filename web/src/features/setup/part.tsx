// One part of the form of the first run.

import { Text } from '@mantine/core'
import type { ReactNode } from 'react'
import classes from './part.module.css'

interface PartProps {
  title: string
  about?: string
  children: ReactNode
}

export function Part({ title, about, children }: PartProps) {
  return (
    <fieldset className={classes.part}>
      <legend className={classes.legend}>{title}</legend>
      {about && (
        <Text size="sm" c="dimmed">
          {about}
        </Text>
      )}
      {children}
    </fieldset>
  )
}
