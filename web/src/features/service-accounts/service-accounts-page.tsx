// Programs that sign in by themselves, and the tokens with which they do. Whoever administers the organization sees them.

import { Button, Skeleton } from '@mantine/core'
import { useDisclosure } from '@mantine/hooks'
import { IconPlus, IconRobot } from '@tabler/icons-react'
import { useState } from 'react'
import { ask, type Schemas } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { Empty } from '../../ui/empty'
import { Page, Panel } from '../../ui/page'
import { ProblemNotice } from '../../ui/problem-notice'
import { AccountPanel } from './account-panel'
import { DeleteAccount } from './delete-account'
import { NewServiceAccount } from './new-service-account'
import { NewToken } from './new-token'
import { RevokeToken } from './revoke-token'

export type Account = Schemas['ServiceAccount']
export type Token = Schemas['ApiToken']

/** What is being done, in a dialog. */
export type Doing =
  | { what: 'token'; account: Account }
  | { what: 'delete'; account: Account }
  | { what: 'revoke'; account: Account; token: Token }

export function ServiceAccountsPage() {
  const list = ask.useQuery('get', '/api/v1/service-accounts')
  const [creating, dialog] = useDisclosure(false)
  const accounts = list.data?.service_accounts
  const create = (
    <Button leftSection={<IconPlus size={16} aria-hidden />} onClick={dialog.open}>
      New service account
    </Button>
  )
  return (
    <Page
      title="Service accounts"
      lead="Programs of your organization, such as CI jobs, that sign in with a token. They use services and administer nothing."
      actions={accounts && accounts.length > 0 && create}
    >
      <NewServiceAccount opened={creating} close={dialog.close} />
      {list.isPending ? (
        <Skeleton h={160} radius="lg" aria-busy aria-label="Loading service accounts" />
      ) : !accounts ? (
        <ProblemNotice problem={asProblem(list.error)} retry={() => void list.refetch()} />
      ) : accounts.length > 0 ? (
        <Accounts accounts={accounts} />
      ) : (
        <Panel>
          <Empty
            icon={<IconRobot size={22} />}
            title="No program signs in by itself yet"
            action={create}
          >
            Make an account for a CI job, give it a token, and keep that as a secret of the CI
            system. <code>fairlead run</code> then reaches the cluster without a sign-in before.
          </Empty>
        </Panel>
      )}
    </Page>
  )
}

function Accounts({ accounts }: { accounts: Account[] }) {
  const [doing, setDoing] = useState<Doing | null>(null)
  const close = () => setDoing(null)
  return (
    <>
      {accounts.map((account) => (
        <AccountPanel key={account.id} account={account} begin={setDoing} />
      ))}
      <NewToken account={doing?.what === 'token' ? doing.account : null} close={close} />
      <DeleteAccount account={doing?.what === 'delete' ? doing.account : null} close={close} />
      <RevokeToken revoked={doing?.what === 'revoke' ? doing : null} close={close} />
    </>
  )
}
