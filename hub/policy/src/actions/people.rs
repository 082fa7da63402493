//! Members, groups, their roles and their devices: who may see and change them.

use fairlead_model::{DeviceId, GroupId, OrgId, UserId};

use super::{Action, Particulars};
use crate::{Caller, Resource, Role, Verb};

/// See who belongs to the organization, in which groups and with which roles.
#[derive(Clone, Debug)]
pub struct ListMembers;

impl Action for ListMembers {
    fn verb(&self) -> Verb {
        Verb::See
    }

    fn resource(&self, caller: &Caller) -> Resource {
        Resource::Organization(caller.org)
    }

    fn in_words(&self) -> String {
        "see the members of the organization".to_owned()
    }
}

/// Shut a member out. Whether they are an owner is a fact: not everybody may unmake one.
#[derive(Clone, Debug)]
pub struct RemoveMember {
    pub user: UserId,
    pub is_owner: bool,
}

impl Action for RemoveMember {
    fn verb(&self) -> Verb {
        Verb::ManageMembers
    }

    fn resource(&self, caller: &Caller) -> Resource {
        Resource::Organization(caller.org)
    }

    fn in_words(&self) -> String {
        if self.is_owner { "remove an owner".to_owned() } else { "remove members".to_owned() }
    }

    fn particulars(&self) -> Particulars {
        Particulars::Roles { touches_owner: self.is_owner }
    }
}

/// Let a removed member in again, with the roles they had. Whether they are an owner is a fact here as well.
#[derive(Clone, Debug)]
pub struct RestoreMember {
    pub user: UserId,
    pub is_owner: bool,
}

impl Action for RestoreMember {
    fn verb(&self) -> Verb {
        Verb::ManageMembers
    }

    fn resource(&self, caller: &Caller) -> Resource {
        Resource::Organization(caller.org)
    }

    fn in_words(&self) -> String {
        if self.is_owner { "let an owner in again" } else { "let members in again" }.to_owned()
    }

    fn particulars(&self) -> Particulars {
        Particulars::Roles { touches_owner: self.is_owner }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleHolder {
    User(UserId),
    Group(GroupId),
}

/// Replace the roles of a member or a group. Both lists are facts: whether an owner is made or unmade depends on both.
#[derive(Clone, Debug)]
pub struct SetRoles {
    pub holder: RoleHolder,
    pub before: Vec<Role>,
    pub after: Vec<Role>,
}

impl Action for SetRoles {
    fn verb(&self) -> Verb {
        Verb::ManageRoles
    }

    fn resource(&self, caller: &Caller) -> Resource {
        Resource::Organization(caller.org)
    }

    fn in_words(&self) -> String {
        match self.particulars() {
            Particulars::Roles { touches_owner: true } => {
                "give or take the role of owner".to_owned()
            }
            _ => "change roles".to_owned(),
        }
    }

    fn particulars(&self) -> Particulars {
        let owns = |roles: &[Role]| roles.contains(&Role::Owner);
        Particulars::Roles { touches_owner: owns(&self.before) != owns(&self.after) }
    }
}

/// Remove a device: its certificate counts for nothing from then on. Everybody removes their own.
#[derive(Clone, Debug)]
pub struct RemoveDevice {
    pub org: OrgId,
    pub device: DeviceId,
    pub owner: UserId,
}

impl Action for RemoveDevice {
    fn verb(&self) -> Verb {
        Verb::RemoveDevice
    }

    fn resource(&self, _: &Caller) -> Resource {
        Resource::Device { id: self.device, owner: self.owner, org: self.org }
    }

    fn in_words(&self) -> String {
        "remove somebody else's device".to_owned()
    }
}
