// The page of a stranger: one button to the identity provider.

import { Alert, Button, Stack, Text, TextInput, Title } from '@mantine/core'
import { useDocumentTitle } from '@mantine/hooks'
import { IconLogin2 } from '@tabler/icons-react'
import { type FormEvent, useState } from 'react'
import { ask } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { Card, Doorstep } from '../../ui/doorstep'
import { ProblemNotice } from '../../ui/problem-notice'
import { reasonOf, signInAddress } from './sign-in'

interface SignInPageProps {
  error: string | undefined
  returnTo: string | undefined
  leave?: (address: string) => void
}

export function SignInPage({ error, returnTo, leave = leaveFor }: SignInPageProps) {
  useDocumentTitle('Sign in · Fairlead')
  const options = ask.useQuery('get', '/api/v1/sign-in')
  return (
    <Doorstep>
      <Card>
        <Stack gap="lg">
          <div>
            <Title order={1} size="h3">
              Sign in to Fairlead
            </Title>
            <Text c="dimmed" size="sm" mt={4}>
              Your services on your laptop, everything else in the cluster.
            </Text>
          </div>
          {error && (
            <Alert color="red" variant="default" role="alert">
              {reasonOf(error)}
            </Alert>
          )}
          {options.isError ? (
            <ProblemNotice
              problem={asProblem(options.error)}
              retry={() => void options.refetch()}
            />
          ) : options.data?.ready === false ? (
            <NotSetUp />
          ) : (
            <SignInForm
              askEmail={options.data?.ask_email ?? false}
              waiting={options.isPending}
              go={(email) => leave(signInAddress(returnTo, email))}
            />
          )}
        </Stack>
      </Card>
    </Doorstep>
  )
}

interface SignInFormProps {
  askEmail: boolean
  waiting: boolean
  go: (email: string | undefined) => void
}

function SignInForm({ askEmail, waiting, go }: SignInFormProps) {
  const [email, setEmail] = useState('')
  const submit = (event: FormEvent) => {
    event.preventDefault()
    go(askEmail ? email.trim() : undefined)
  }
  return (
    <form onSubmit={submit}>
      <Stack>
        {askEmail && (
          <TextInput
            label="Work e-mail"
            description="It decides which identity provider signs you in."
            type="email"
            autoComplete="username"
            required
            value={email}
            onChange={(event) => setEmail(event.currentTarget.value)}
          />
        )}
        <Button
          type="submit"
          size="md"
          fullWidth
          disabled={waiting}
          leftSection={<IconLogin2 size={18} aria-hidden />}
        >
          Continue with single sign-on
        </Button>
      </Stack>
    </form>
  )
}

function NotSetUp() {
  return (
    <Stack gap="xs">
      <Text size="sm">
        This hub has no organization yet. When it first started, it printed a one-time address
        ending in <code>/setup?token=…</code> to its log. Open that address to set it up.
      </Text>
      <Text size="sm" c="dimmed">
        The address is good for 30 minutes. <code>fairlead-hub admin setup-url</code> prints a new
        one on the hub's host.
      </Text>
    </Stack>
  )
}

function leaveFor(address: string) {
  globalThis.location.assign(address)
}
