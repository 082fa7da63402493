// A small word with a meaning: a kind, a state, a permission.

import type { ReactNode } from 'react'
import classes from './tag.module.css'

export type Meaning = 'good' | 'busy' | 'bad' | 'calm' | 'tide' | 'violet'

interface TagProps {
  meaning: Meaning
  /** States carry a dot, so that they are told apart from kinds without relying on colour alone. */
  dot?: boolean
  children: ReactNode
}

export function Tag({ meaning, dot = false, children }: TagProps) {
  return (
    <span className={classes.tag} data-meaning={meaning}>
      {dot && <span className={classes.dot} aria-hidden />}
      {children}
    </span>
  )
}
