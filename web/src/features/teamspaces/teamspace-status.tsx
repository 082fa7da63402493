// What the hub sees of a teamspace's agent.

import { Tooltip } from '@mantine/core'
import type { Schemas } from '../../hub/client'
import { type Meaning, Tag } from '../../ui/tag'

type Status = Schemas['Teamspace']['status']

const statuses: Record<Status, { meaning: Meaning; word: string; about: string }> = {
  waiting: { meaning: 'busy', word: 'Waiting', about: 'No agent has joined yet.' },
  connected: { meaning: 'good', word: 'Connected', about: 'Its agent holds a link to this hub.' },
  disconnected: {
    meaning: 'bad',
    word: 'Disconnected',
    about: 'No replica of its agent holds a link. What runs there runs on; sessions wait for it.',
  },
  locked: {
    meaning: 'bad',
    word: 'Locked',
    about:
      'Its key was presented by another cluster. Nothing is let through until this is settled.',
  },
}

export function TeamspaceStatus({ status }: { status: Status }) {
  const { meaning, word, about } = statuses[status]
  return (
    <Tooltip label={about} multiline maw={260}>
      <span>
        <Tag meaning={meaning} dot>
          {word}
        </Tag>
      </span>
    </Tooltip>
  )
}
