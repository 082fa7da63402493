// The agent of a teamspace: its replicas, and the key that people compare with its log.

import { Alert, Text } from '@mantine/core'
import { IconLock, IconPlugConnectedX } from '@tabler/icons-react'
import type { Schemas } from '../../hub/client'
import { Ago } from '../../ui/ago'
import { CopyButton } from '../../ui/copy'
import classes from './agent-facts.module.css'

export function AgentFacts({ teamspace }: { teamspace: Schemas['Teamspace'] }) {
  const { key_thumbprint, replicas } = teamspace
  return (
    <>
      <Trouble teamspace={teamspace} />
      <dl className={classes.facts}>
        <div className={classes.fact}>
          <dt>Agent replicas</dt>
          <dd>
            {replicas.length === 0 ? (
              <Text size="sm">None holds a link to this hub.</Text>
            ) : (
              <ul className={classes.replicas}>
                {replicas.map((replica) => (
                  <li key={replica.name}>
                    <code>{replica.name}</code>
                    <span className={classes.aside}>
                      {replica.version} · linked <Ago at={replica.connected_at} />
                    </span>
                  </li>
                ))}
              </ul>
            )}
          </dd>
        </div>
        <div className={classes.fact}>
          <dt>Key thumbprint</dt>
          <dd>
            {key_thumbprint ? (
              <>
                <div className={classes.key}>
                  <code>{key_thumbprint}</code>
                  <CopyButton text={key_thumbprint} what="thumbprint" />
                </div>
                <span className={classes.aside}>
                  The agent's log shows the same one. Laptops accept no other.
                </span>
              </>
            ) : (
              <Text size="sm">No agent has brought its key yet.</Text>
            )}
          </dd>
        </div>
      </dl>
    </>
  )
}

/** What is wrong with the agent, and what people who look after the cluster can do. */
function Trouble({ teamspace }: { teamspace: Schemas['Teamspace'] }) {
  const { status, lock_reason } = teamspace
  if (status === 'disconnected') {
    return (
      <Alert variant="default" icon={<IconPlugConnectedX />} title="The agent is not connected">
        Services keep running; consume and intercept wait until a replica is back. Look at its log:{' '}
        <code>kubectl --namespace fairlead-system logs deployment/fairlead-agent</code>
      </Alert>
    )
  }
  if (status === 'locked') {
    return (
      <Alert variant="default" icon={<IconLock />} title="This teamspace is locked">
        {lock_reason ?? 'Its key was presented from a second cluster.'} Nothing is let through.
        Delete the teamspace and enrol the right cluster anew.
      </Alert>
    )
  }
  return null
}
