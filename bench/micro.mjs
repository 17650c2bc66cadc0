export async function measureMicro() {
  return { results: [], requirements: [] };
}
export function microTables() {
  return "";
}
