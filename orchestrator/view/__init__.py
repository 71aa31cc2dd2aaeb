"""The page of `nm view`: a picture of a running lab in a browser.

server    listens on loopback, and ends with the command
access    token, host and origin of a request; headers of every answer
app       the addresses of the page
feed      follows the lab while somebody looks, and sends what changes
board     the state that pages show, and the differences that they are sent
picture   nodes, links and runs as the page shows them
rates     load, loss and queue of links, from samples of counters
source    the connections to the lab's controller
details   what a node or a link shows when it is chosen
actions   changes of links
folders   results folders of runs, with their reports
"""
