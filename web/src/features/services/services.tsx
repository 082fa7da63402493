// The catalogue of a teamspace: what can be reached, what may be done with it, and who holds it right now.

import { Button, Skeleton, Text, TextInput } from '@mantine/core'
import { useHotkeys } from '@mantine/hooks'
import { IconSearch, IconTopologyStar3 } from '@tabler/icons-react'
import { useDeferredValue, useRef, useState } from 'react'
import { ask, type Schemas } from '../../hub/client'
import { asProblem } from '../../hub/problem'
import { counted } from '../../ui/counted'
import { Empty } from '../../ui/empty'
import { Panel, Section } from '../../ui/page'
import { ProblemNotice } from '../../ui/problem-notice'
import { matching } from './service-filter'
import { ServicesTable } from './services-table'

/** Rows shown at first; a cluster may have thousands, and a filter finds them faster than a scroll. */
const FIRST_ROWS = 200

export function Services({ teamspace }: { teamspace: Schemas['Teamspace'] }) {
  const { id } = teamspace
  const catalogue = ask.useQuery('get', '/api/v1/teamspaces/{id}/services', {
    params: { path: { id } },
  })
  const [filter, setFilter] = useState('')
  const shown = matching(catalogue.data?.services ?? [], useDeferredValue(filter))
  return (
    <Section
      title="Services"
      beside={<Filter value={filter} change={setFilter} disabled={!catalogue.data} />}
    >
      {catalogue.isPending ? (
        <Skeleton h={320} radius="lg" aria-busy aria-label="Loading services" />
      ) : catalogue.data ? (
        <Panel>
          <Found all={catalogue.data.services} shown={shown} clear={() => setFilter('')} />
        </Panel>
      ) : (
        <ProblemNotice
          problem={asProblem(catalogue.error)}
          retry={() => void catalogue.refetch()}
        />
      )}
    </Section>
  )
}

interface FilterProps {
  value: string
  change: (value: string) => void
  disabled: boolean
}

function Filter({ value, change, disabled }: FilterProps) {
  const box = useRef<HTMLInputElement>(null)
  useHotkeys([['/', () => box.current?.focus()]])
  return (
    <TextInput
      ref={box}
      aria-label="Filter services"
      placeholder="Filter: name, port, person…  ( / )"
      type="search"
      w={{ base: '100%', xs: 300 }}
      leftSection={<IconSearch size={16} aria-hidden />}
      disabled={disabled}
      value={value}
      onChange={(event) => change(event.currentTarget.value)}
      onKeyDown={(event) => {
        if (event.key === 'Escape') change('')
      }}
    />
  )
}

interface FoundProps {
  all: Schemas['Service'][]
  shown: Schemas['Service'][]
  clear: () => void
}

function Found({ all, shown, clear }: FoundProps) {
  const [rows, setRows] = useState(FIRST_ROWS)
  if (all.length === 0) {
    return (
      <Empty icon={<IconTopologyStar3 size={22} />} title="No services to see">
        Services appear as soon as the agent reports them and a role lets you see them.
      </Empty>
    )
  }
  if (shown.length === 0) {
    return (
      <Empty
        icon={<IconSearch size={22} />}
        title="No service matches"
        action={
          <Button variant="default" size="xs" onClick={clear}>
            Clear the filter
          </Button>
        }
      />
    )
  }
  return (
    <>
      <ServicesTable services={shown.slice(0, rows)} />
      <Text size="xs" c="dimmed" px="lg" py="sm" role="status">
        {shown.length === all.length
          ? counted(all.length, 'service')
          : `${shown.length} of ${counted(all.length, 'service')}`}
        {shown.length > rows && (
          <Button
            variant="subtle"
            size="compact-xs"
            ml="sm"
            onClick={() => setRows(rows + FIRST_ROWS)}
          >
            Show more
          </Button>
        )}
      </Text>
    </>
  )
}
