// The form of the first run.

import { Button, PasswordInput, SimpleGrid, Stack, TagsInput, TextInput } from '@mantine/core'
import { useForm } from '@mantine/form'
import { ask } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { Command } from '../../ui/copy'
import { ProblemNotice } from '../../ui/problem-notice'
import { GroupRoles } from './group-roles'
import { Part } from './part'
import {
  checks,
  emptySetup,
  requestOf,
  type SetupForm,
  type SetupValues,
  slugOf,
} from './setup-form'

interface SetupFieldsProps {
  token: string
  done: (ownerEmail: string) => void
}

export function SetupFields({ token, done }: SetupFieldsProps) {
  const form = useForm<SetupValues>({
    initialValues: emptySetup,
    validate: checks,
    validateInputOnBlur: true,
  })
  const save = ask.useMutation('post', '/api/v1/setup')
  const submit = form.onSubmit((values) =>
    save.mutate({ body: requestOf(values, token) }, { onSuccess: () => done(values.ownerEmail) }),
  )
  return (
    <form onSubmit={submit} noValidate>
      <Stack gap="xl">
        <Organization form={form} />
        <IdentityProvider form={form} />
        <GroupRoles form={form} />
        {save.isError && <ProblemNotice problem={asProblem(save.error)} />}
        <Button type="submit" size="md" loading={save.isPending}>
          Set up the hub
        </Button>
      </Stack>
    </form>
  )
}

function Organization({ form }: { form: SetupForm }) {
  const name = form.getInputProps('organizationName')
  return (
    <Part title="Organization">
      <SimpleGrid cols={{ base: 1, xs: 2 }}>
        <TextInput
          label="Name"
          placeholder="Acme"
          required
          {...name}
          onChange={(event) => {
            const before = form.values.organizationName
            const untouched = form.values.slug === slugOf(before)
            name.onChange(event)
            if (untouched) form.setFieldValue('slug', slugOf(event.currentTarget.value))
          }}
        />
        <TextInput label="Short name" placeholder="acme" required {...form.getInputProps('slug')} />
      </SimpleGrid>
      <TextInput
        label="First owner"
        description="Who signs in with this address at your identity provider becomes owner."
        placeholder="you@acme.example"
        type="email"
        autoComplete="email"
        required
        {...form.getInputProps('ownerEmail')}
      />
    </Part>
  )
}

function IdentityProvider({ form }: { form: SetupForm }) {
  return (
    <Part
      title="Identity provider"
      about="Any OpenID Connect provider. Register Fairlead there as a web application with this redirect address:"
    >
      <Command text={`${globalThis.location.origin}/login/callback`} what="redirect address" />
      <TextInput
        label="Issuer"
        placeholder="https://login.acme.example"
        required
        {...form.getInputProps('issuer')}
      />
      <SimpleGrid cols={{ base: 1, xs: 2 }}>
        <TextInput
          label="Client ID"
          autoComplete="off"
          required
          {...form.getInputProps('clientId')}
        />
        <PasswordInput
          label="Client secret"
          placeholder="none for a public client"
          autoComplete="off"
          {...form.getInputProps('clientSecret')}
        />
        <TextInput
          label="Groups claim"
          description="The claim that lists a person's groups."
          {...form.getInputProps('groupsClaim')}
        />
        <TextInput
          label="Scopes"
          description="Separated by spaces."
          {...form.getInputProps('scopes')}
        />
      </SimpleGrid>
      <TagsInput
        label="E-mail domains"
        description="Addresses of these domains sign in here. Press Enter after each."
        placeholder={form.values.emailDomains.length === 0 ? 'acme.example' : ''}
        splitChars={[',', ' ']}
        {...form.getInputProps('emailDomains')}
      />
    </Part>
  )
}
