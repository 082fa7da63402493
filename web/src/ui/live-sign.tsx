// Whether what is on the screen follows the hub at this moment. It never says "live" on faith.

import { Tooltip } from '@mantine/core'
import type { Liveness } from '../hub/changes'
import { Tag } from './tag'

const signs = {
  connecting: { meaning: 'calm', word: 'Connecting', about: 'Asking the hub for changes.' },
  live: { meaning: 'good', word: 'Live', about: 'Changes appear by themselves.' },
  reconnecting: {
    meaning: 'busy',
    word: 'Reconnecting',
    about: 'The hub does not answer: what you see may be old.',
  },
  withheld: {
    meaning: 'calm',
    word: 'Not live',
    about: 'Your roles do not let you watch changes: reload to see what is new.',
  },
} as const

export function LiveSign({ liveness }: { liveness: Liveness }) {
  const { meaning, word, about } = signs[liveness]
  return (
    <Tooltip label={about}>
      <span role="status" aria-live="polite">
        <Tag meaning={meaning} dot>
          {word}
        </Tag>
      </span>
    </Tooltip>
  )
}
