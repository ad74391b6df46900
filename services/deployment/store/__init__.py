"""The SQL of the deployment service.

Locks are taken in one order everywhere, so that no two changes can wait for one another:

1. the record of the `request_id`, before any operation begins;
2. the pair: an advisory lock on (service, environment), held until the transaction ends. All
   changes of the deployments of a pair happen under it, one after the other, so what is read
   after it stays true: the slot, the highest `completed_seq`, what is live, who has decided;
3. the service, FOR SHARE, by whoever asks for a new deployment of it;
4. releases, in the order of their ids: FOR SHARE, or FOR NO KEY UPDATE by whoever may set their
   status (promote and rollback) or marks them bad, never first the one and then the other;
5. the environment, FOR SHARE, which also holds the version of its policy; FOR NO KEY UPDATE by
   whoever publishes the next one, or makes or releases a lock there. A lock that is about more
   than one environment takes all of them, in the order of their ids, and so does whoever makes or
   changes a freeze window, before the window itself;
6. people who decide or have decided, and who override a gate or roll back, FOR SHARE, in the
   order of their ids;
7. deployments, by the guarded updates themselves.

What else a start depends on is read without a lock, since no change of it can make the start wrong
at its moment: what has lived in other environments, what is live of other services, and whether
those in line before it, which the pair keeps in line, could start.

A transaction holds one pair; one that publishes a policy, marks a release, locks or freezes holds
none. Unique indexes and check constraints are the second wall.
"""
