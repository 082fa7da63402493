// A page's frame: its title (also the tab's), what it is for, what can be done on it.

import { Text, Title } from '@mantine/core'
import { useDocumentTitle } from '@mantine/hooks'
import type { ReactNode } from 'react'
import classes from './page.module.css'

interface PageProps {
  title: string
  above?: ReactNode
  beside?: ReactNode
  lead?: ReactNode
  actions?: ReactNode
  children: ReactNode
}

export function Page({ title, above, beside, lead, actions, children }: PageProps) {
  useDocumentTitle(`${title} · Fairlead`)
  return (
    <div className={classes.page}>
      <header className={classes.header}>
        <div className={classes.words}>
          {above}
          <div className={classes.title}>
            <Title order={1} size="h2">
              {title}
            </Title>
            {beside}
          </div>
          {lead && (
            <Text c="dimmed" maw="46rem">
              {lead}
            </Text>
          )}
        </div>
        {actions && <div className={classes.actions}>{actions}</div>}
      </header>
      {children}
    </div>
  )
}

/** A titled part of a page. */
export function Section({
  title,
  beside,
  children,
}: {
  title: string
  beside?: ReactNode
  children: ReactNode
}) {
  return (
    <section className={classes.section} aria-label={title}>
      <div className={classes.sectionHeader}>
        <Title order={2} size="h4">
          {title}
        </Title>
        {beside}
      </div>
      {children}
    </section>
  )
}

export function Panel({ children }: { children: ReactNode }) {
  return <div className={classes.panel}>{children}</div>
}
