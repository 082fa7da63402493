// A person in a line of a table.

import { Avatar } from '@mantine/core'
import classes from './person.module.css'

export function Person({ email, me }: { email: string; me: boolean }) {
  return (
    <span className={classes.person}>
      <Avatar size={24} color={me ? 'tide' : 'gray'} variant="filled" aria-hidden>
        {initialsOf(email)}
      </Avatar>
      <span className={classes.email} title={email}>
        {email}
      </span>
      {me && <span className={classes.me}>you</span>}
    </span>
  )
}

/** "Ada Lovelace" and "ada.lovelace@example.test" are both AL. */
export function initialsOf(name: string): string {
  const words = (name.split('@')[0] ?? '').split(/[\s._-]+/).filter(Boolean)
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0]]
  return letters.map((word) => word?.[0]?.toUpperCase() ?? '').join('') || '?'
}
