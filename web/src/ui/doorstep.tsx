// The frame of pages for those who are not inside yet: sign-in and setup.

import type { ReactNode } from 'react'
import { Mark } from './brand'
import { ColourScheme } from './colour-scheme'
import classes from './doorstep.module.css'

export function Doorstep({ wide = false, children }: { wide?: boolean; children: ReactNode }) {
  return (
    <div className={classes.doorstep}>
      <header className={classes.header}>
        <span className={classes.brand}>
          <Mark />
          Fairlead
        </span>
        <ColourScheme />
      </header>
      <main className={classes.main} data-wide={wide}>
        {children}
      </main>
    </div>
  )
}

export function Card({ children }: { children: ReactNode }) {
  return <div className={classes.card}>{children}</div>
}
