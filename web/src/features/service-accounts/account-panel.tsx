// One service account: what it may do and where, and its tokens with their ends.

import { Button, Text } from '@mantine/core'
import { IconKey } from '@tabler/icons-react'
import { Ago } from '../../ui/ago'
import { Panel, Section } from '../../ui/page'
import tables from '../../ui/table.module.css'
import { Tag } from '../../ui/tag'
import classes from './account-panel.module.css'
import type { Account, Doing, Token } from './service-accounts-page'

interface AccountPanelProps {
  account: Account
  begin: (doing: Doing) => void
}

export function AccountPanel({ account, begin }: AccountPanelProps) {
  const { name, roles, tokens } = account
  return (
    <Section
      title={name}
      beside={
        <span className={classes.actions}>
          <Button
            variant="default"
            size="compact-sm"
            leftSection={<IconKey size={14} aria-hidden />}
            aria-label={`New token of ${name}`}
            onClick={() => begin({ what: 'token', account })}
          >
            New token
          </Button>
          <Button
            variant="default"
            size="compact-sm"
            aria-label={`Delete ${name}`}
            onClick={() => begin({ what: 'delete', account })}
          >
            Delete
          </Button>
        </span>
      }
    >
      <Panel>
        <p className={classes.about}>
          {roles.map((role) => (
            <Tag key={role} meaning="tide">
              {role}
            </Tag>
          ))}
          <Text component="span" size="sm" c="dimmed">
            {whereOf(account)}, made <Ago at={account.created_at} />
          </Text>
        </p>
        {tokens.length === 0 ? (
          <Text size="sm" c="dimmed" className={classes.none}>
            It has no token: nothing can sign in as {name}.
          </Text>
        ) : (
          <Tokens account={account} revoke={(token) => begin({ what: 'revoke', account, token })} />
        )}
      </Panel>
    </Section>
  )
}

function whereOf({ teamspaces }: Account): string {
  if (!teamspaces) return 'in every teamspace'
  return teamspaces.length > 0 ? `in ${teamspaces.join(', ')}` : 'in no teamspace any more'
}

function Tokens({ account, revoke }: { account: Account; revoke: (token: Token) => void }) {
  return (
    <table className={tables.table} aria-label={`Tokens of ${account.name}`}>
      <thead>
        <tr>
          <th scope="col">Token for</th>
          <th scope="col" className={tables.wide}>
            Last used
          </th>
          <th scope="col">Expires</th>
          <th scope="col">
            <span className={tables.spoken}>What can be done</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {account.tokens.map((token) => (
          <tr key={token.id}>
            <th scope="row">
              {token.name}
              <span className={tables.narrow}>
                Used: <LastUsed token={token} />
              </span>
            </th>
            <td className={tables.wide}>
              <LastUsed token={token} />
            </td>
            <td>
              <Ago at={token.expires_at} />
            </td>
            <td>
              <span className={classes.end}>
                <Button
                  variant="default"
                  size="compact-sm"
                  aria-label={`Revoke the token of ${account.name} for ${token.name}`}
                  onClick={() => revoke(token)}
                >
                  Revoke
                </Button>
              </span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

function LastUsed({ token }: { token: Token }) {
  return token.last_used_at ? <Ago at={token.last_used_at} /> : 'never'
}
