// Says what the hub refused and what to try, at the place where it happened.

import { Alert, Button, List, Text } from '@mantine/core'
import { IconAlertTriangle, IconLock, IconPlugConnectedX } from '@tabler/icons-react'
import type { Problem } from '../hub/problem'

interface ProblemNoticeProps {
  problem: Problem
  retry?: (() => void) | undefined
}

export function ProblemNotice({ problem, retry }: ProblemNoticeProps) {
  return (
    <Alert
      role="alert"
      variant="default"
      title={titleOf(problem)}
      icon={<ProblemIcon problem={problem} />}
    >
      <Text size="sm">{problem.message}</Text>
      {problem.policies.length > 0 && (
        <>
          <Text size="sm" mt="xs">
            {problem.policies.length === 1
              ? 'Forbidden by the policy:'
              : 'Forbidden by the policies:'}
          </Text>
          <List size="sm">
            {problem.policies.map((policy) => (
              <List.Item key={policy}>
                <code>{policy}</code>
              </List.Item>
            ))}
          </List>
        </>
      )}
      {problem.hint && (
        <Text size="sm" mt="xs" c="dimmed">
          {problem.hint}
        </Text>
      )}
      {retry && (
        <Button mt="md" size="xs" variant="default" onClick={retry}>
          Try again
        </Button>
      )}
    </Alert>
  )
}

function ProblemIcon({ problem }: { problem: Problem }) {
  if (problem.isDenied) return <IconLock />
  if (problem.isPassing) return <IconPlugConnectedX />
  return <IconAlertTriangle />
}

function titleOf(problem: Problem): string {
  if (problem.isDenied) return 'Not allowed'
  if (problem.isMissing) return 'Not found'
  if (problem.isPassing) return 'The hub cannot be reached'
  return 'That did not work'
}
