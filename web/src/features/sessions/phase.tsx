// What is seen of a session, in words and colour. "Active" comes from the hub only after bytes have passed.

import { Tooltip } from '@mantine/core'
import type { Schemas } from '../../hub/client'
import { type Meaning, Tag } from '../../ui/tag'

type Phase = Schemas['Session']['phase']

const phases: Record<Phase, { meaning: Meaning; word: string; about: string }> = {
  preparing: { meaning: 'busy', word: 'Preparing', about: 'The path is being made.' },
  active: { meaning: 'good', word: 'Active', about: 'Bytes have passed through the whole path.' },
  away: {
    meaning: 'busy',
    word: 'Away',
    about: 'The laptop does not answer; requests go to the pods.',
  },
  contested: {
    meaning: 'bad',
    word: 'Contested',
    about: 'Something in the cluster keeps removing the redirect.',
  },
  refused: {
    meaning: 'bad',
    word: 'Refused',
    about: 'The cluster agent refused it before anything was changed.',
  },
  ended: { meaning: 'calm', word: 'Ended', about: 'Over; what was changed is given back.' },
}

export function PhaseTag({ phase, detail }: { phase: Phase; detail?: string | null | undefined }) {
  const { meaning, word, about } = phases[phase]
  return (
    <Tooltip label={detail ? `${about} ${detail}` : about} multiline maw={280}>
      <span>
        <Tag meaning={meaning} dot>
          {word}
        </Tag>
      </span>
    </Tooltip>
  )
}
