/* Routes and which role sees them; the server decides anyway, this keeps the menu honest. */
import { createRouter, createWebHistory, type Router } from "vue-router";
import type { Role } from "./api/types";
import { useAuth } from "./stores/auth";

declare module "vue-router" {
  interface RouteMeta {
    role?: Role;
    open?: boolean;
  }
}

export interface MenuItem {
  path: string;
  text: "nav.wall" | "nav.devices" | "nav.users" | "nav.ledger";
  role: Role;
}

export const MENU: MenuItem[] = [
  { path: "/wall", text: "nav.wall", role: "watcher" },
  { path: "/devices", text: "nav.devices", role: "administrator" },
  { path: "/users", text: "nav.users", role: "administrator" },
  { path: "/ledger", text: "nav.ledger", role: "auditor" },
];

export function makeRouter(): Router {
  const router = createRouter({
    history: createWebHistory(),
    routes: [
      { path: "/login", component: () => import("./views/LoginView.vue"), meta: { open: true } },
      { path: "/wall", component: () => import("./views/WallView.vue"), meta: { role: "watcher" } },
      { path: "/wall/closed", component: () => import("./views/WallClosedView.vue") },
      { path: "/devices", component: () => import("./views/DevicesView.vue"), meta: { role: "administrator" } },
      { path: "/users", component: () => import("./views/UsersView.vue"), meta: { role: "administrator" } },
      { path: "/ledger", component: () => import("./views/LedgerView.vue"), meta: { role: "auditor" } },
      { path: "/:rest(.*)*", redirect: "/" },
      { path: "/", redirect: () => useAuth().home },
    ],
  });
  router.beforeEach((to) => {
    const auth = useAuth();
    if (to.meta.open) return auth.token && !auth.mustChange ? auth.home : true;
    if (!auth.token || auth.mustChange) return "/login";
    if (to.path === "/wall/closed" && auth.role === "watcher") return "/wall";
    if (to.meta.role === undefined || to.meta.role === auth.role) return true;
    // Who looks for pictures and may see none is told why; elsewhere the menu says it all.
    return to.path === "/wall" ? "/wall/closed" : auth.home;
  });
  return router;
}
