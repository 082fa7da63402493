// The mark: a rope led through a ring, which is what a fairlead is.

export function Mark({ size = 28 }: { size?: number }) {
  return <img src="/fairlead.svg" width={size} height={size} alt="" />
}
